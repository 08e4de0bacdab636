"""The queries of seed 001, word for word."""

from __future__ import annotations

from typing import Final

DISCOVERY: Final = """
MATCH (a:Agent)-[:CAN_USE]->(t:Tool)
WHERE a.id = $agentId
RETURN t.id, t.name, t.capability
"""
ACTIVE: Final = """
MATCH (a:Agent)-[:PARTICIPATES_IN]->(d:Discussion)
WHERE d.status = 'active'
RETURN a.id, d.id, d.title
"""
NAVIGATION: Final = """
MATCH (c:Concept)-[r:RELATES_TO]->(c2:Concept)
WHERE c.id = $conceptId
RETURN c2.id, c2.name, r.strength
ORDER BY r.strength DESC
LIMIT 10
"""
