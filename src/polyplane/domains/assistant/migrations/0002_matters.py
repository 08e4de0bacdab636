"""Profiles, tokens, tasks, messages, calendar, money, configuration, and what models made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import op

revision = "0002_matters"
down_revision = "0001_documents"
branch_labels = None
depends_on = None

MOVES: Final = {
    "tasks": (
        "status",
        "todo,doing,blocked,done,cancelled",
        '{"todo": ["doing", "blocked", "done", "cancelled"],'
        ' "doing": ["todo", "blocked", "done", "cancelled"],'
        ' "blocked": ["todo", "doing", "cancelled"], "done": ["todo"], "cancelled": ["todo"]}',
    ),
    "oauth_tokens": (
        "state",
        "active,needs_consent",
        '{"active": ["refreshing", "needs_consent"], "refreshing": ["active", "needs_consent"],'
        ' "needs_consent": ["active"]}',
    ),
}
TABLES: Final = (
    "model_output_documents",
    "model_outputs",
    "configuration",
    "postings",
    "transactions",
    "accounts",
    "calendar_overrides",
    "calendar_events",
    "messages",
    "message_threads",
    "tasks",
    "integrations",
    "oauth_consents",
    "oauth_tokens",
    "user_profiles",
)
FUNCTIONS: Final = (
    "check_move",
    "check_owner",
    "check_posting",
    "refuse_change",
    "check_balance",
    "check_reversal",
    "check_version",
    "check_account",
    "minor_digits",
)


def upgrade() -> None:
    here = Path(__file__).parent
    for name in ("matters_tables.sql", "matters_rules.sql"):
        op.execute((here / name).read_text())
    for table, (column, first, moves) in MOVES.items():
        op.execute(
            f"CREATE TRIGGER moves BEFORE INSERT OR UPDATE OF {column} ON assistant.{table}"
            f" FOR EACH ROW EXECUTE FUNCTION assistant.check_move('{column}', '{moves}', '{first}')"
        )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table, schema="assistant")
    op.execute(f"DROP FUNCTION {', '.join(f'assistant.{it}' for it in FUNCTIONS)}")
