"""What a plane declares: the applications' lists and its own, added up and checked once."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polyplane.errors import Misconfigured
from polyplane.model.application import Application
from polyplane.model.blob import refers_to_blobs
from polyplane.model.graph_names import check_graph
from polyplane.model.live import Rows, Topic
from polyplane.model.projection import Cached, Projection
from polyplane.model.saga import Saga
from polyplane.model.secret_rows import SecretRows, secrets_of
from polyplane.model.stream import Stream
from polyplane.model.table import Model
from polyplane.model.touches import touches_of
from polyplane.model.transformation import Transformation, form_of
from polyplane.model.wrapping import KeyWrapping


@dataclass(frozen=True, slots=True)
class Declared:
    """All that the applications and the plane's own lists declare, in one."""

    applications: tuple[Application, ...]
    models: tuple[type[Model], ...]
    projections: tuple[type[Projection[Any]], ...]
    streams: tuple[type[Stream], ...]
    sagas: tuple[type[Saga[Any]], ...] = ()
    transformations: tuple[type[Transformation[Any, Any]], ...] = ()
    elsewhere: frozenset[str] = frozenset()
    """The projections that only other processes do."""
    blobs: bool = False
    """Whether files are kept."""
    keys: KeyWrapping | None = None
    """What wraps data keys, if an application brings it."""
    secrets: tuple[SecretRows, ...] = ()
    """The models that have secrets."""
    captured: tuple[type[Model], ...] = ()
    """The models whose changes are told: those that projections or transformations read, or
    applications follow."""

    @classmethod
    def of(
        cls,
        applications: Sequence[Application],
        models: Sequence[type[Model]],
        projections: Sequence[type[Projection[Any]]],
        streams: Sequence[type[Stream]],
        sagas: Sequence[type[Saga[Any]]] = (),
        blobs: bool = False,
    ) -> Declared:
        """Add up; Misconfigured when two things have one name, or a model is not listed.

        Files are kept by who says so, by every application, and where a model refers to one."""
        listed = (*models, *(m for a in applications for m in a.models))
        follows = [m for a in applications for m in a.follows]
        if unlisted := [model for model in follows if model not in listed]:
            raise Misconfigured(
                f"{unlisted[0].__name__} is followed, and is no model of this plane.",
                fix=f"Add {unlisted[0].__name__} to models.",
            )
        transformed = tuple(t for a in applications for t in a.transformations)
        taken_again = [it.source for it in transformed if form_of(it).follows]
        derived = (*projections, *(p for a in applications for p in a.projections))
        every = cls(
            tuple(applications),
            listed,
            derived,
            (*streams, *(s for a in applications for s in a.streams)),
            (*sagas, *(s for a in applications for s in a.sagas)),
            transformations=transformed,
            blobs=blobs or bool(applications) or any(map(refers_to_blobs, listed)),
            keys=_wrapping_of(applications),
            secrets=tuple(rows for model in dict.fromkeys(listed) if (rows := secrets_of(model))),
            captured=tuple(dict.fromkeys((*(it.model for it in derived), *taken_again, *follows))),
        )
        kinds: tuple[Sequence[Any], ...] = (every.projections, every.streams, every.applications)
        for kind in (*kinds, every.sagas, transformed):
            names = [it.name for it in kind]
            if odd := [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name)]:
                raise Misconfigured(
                    f"{odd[0]!r} is no name for a projection, stream, saga, transformation or"
                    " application.",
                    fix="Use lower-case letters, digits and underscores, at most 63.",
                )
            if odd := [name for name in names if re.search(r"_g\d+$", name)]:
                raise Misconfigured(
                    f"{odd[0]!r} ends as the further collections of a projection do.",
                    fix="Give it another name.",
                )
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise Misconfigured(f"Two of the same kind are named {twice[0]!r}.")
        _check_reads(every)
        for it in transformed:
            _check_models(it, every.models)
        check_graph(every.projections)
        for application in applications:
            _check_topics(application)
        return every

    @property
    def topics(self) -> dict[str, Topic]:
        """What may be followed, by `<application>.<topic>`."""
        return {f"{a.name}.{it.name}": it for a in self.applications for it in a.topics}

    def followed_models(self) -> list[type[Model]]:
        """The models whose changes a topic is about."""
        return [it.of.model for it in self.topics.values() if isinstance(it.of, Rows)]

    def shared(self, kinds: Collection[str]) -> Declared:
        """What a worker beside `up` takes: the projections of `kinds`, and every saga."""
        projections = tuple(it for it in self.projections if it.kind in kinds)
        models = dict.fromkeys(it.model for it in projections)
        models |= dict.fromkeys(touch.model for it in projections for touch in touches_of(it))
        elsewhere = frozenset(it.name for it in self.projections if it not in projections)
        return replace(
            self,
            applications=(),
            models=tuple(models),
            projections=projections,
            streams=(),
            elsewhere=elsewhere,
        )

    def of_kind(self, kind: type[Projection[Any]]) -> list[type[Projection[Any]]]:
        """The projections of one kind."""
        return [projection for projection in self.projections if issubclass(projection, kind)]

    def engines(self) -> list[str]:
        """The embedded engines this needs."""
        needed = ["postgres", "nats"]
        if self.applications or self.of_kind(Cached):
            needed.append("valkey")
        if self.blobs:
            needed.append("seaweedfs")
        return needed


def _check_models(it: type[Transformation[Any, Any]], models: Sequence[type[Model]]) -> None:
    """Raise Misconfigured when a transformation is of a model that is not listed."""
    for model in (it.source, it.target):
        if model not in models:
            raise Misconfigured(
                f"{it.__name__} is about {model.__name__}, which is no model of this plane.",
                fix=f"Add {model.__name__} to models.",
            )


def _check_reads(every: Declared) -> None:
    """Raise Misconfigured for a projection that reads what is no model of the plane."""
    for projection in every.projections:
        if projection.model not in every.models:
            raise Misconfigured(
                f"{projection.__name__} reads {projection.model.__name__}, which is no model"
                " of this plane.",
                fix=f"Add {projection.model.__name__} to models.",
            )
        for touch in touches_of(projection):
            if touch.model not in every.models:
                raise Misconfigured(
                    f"{projection.__name__} touches {touch.model.__name__}, which is no model"
                    " of this plane.",
                    fix=f"Add {touch.model.__name__} to models.",
                )


def _check_topics(application: Application) -> None:
    """Raise Misconfigured for a topic that nobody may follow, or that there is twice."""
    names = [it.name for it in application.topics]
    for topic in application.topics:
        where = f"The topic {topic.name} of {application.name}"
        if names.count(topic.name) > 1:
            raise Misconfigured(f"{where} is declared twice.")
        if topic.permission not in application.permissions:
            raise Misconfigured(
                f"{where} asks for {topic.permission!r}, which the application does not declare.",
                fix="Add it to permissions= of the application.",
            )
        if isinstance(topic.of, Rows) and topic.of.model not in application.models:
            raise Misconfigured(
                f"{where} is about {topic.of.model.__name__}, which is no model of it."
            )


def _wrapping_of(applications: Sequence[Application]) -> KeyWrapping | None:
    """What wraps data keys; Misconfigured when two applications say so."""
    found = [it for it in applications if it.keys is not None]
    if len(found) > 1:
        raise Misconfigured(f"{found[0].name} and {found[1].name} both wrap data keys.")
    return found[0].keys if found else None
