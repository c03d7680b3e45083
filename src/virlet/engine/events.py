"""Who hears what happened: every sink hears every event, in the order in which things happened."""

from __future__ import annotations

from collections.abc import Callable

from virlet.engine.api import DomainEvent, DomainRef, EventSink, HelperEvent
from virlet.enums import EventId, Lifecycle

__all__ = ["EventHub", "lifecycle"]


class EventHub:
    """The driver's one list of sinks.

    A sink is called synchronously and must neither wait nor raise: what it does with an event is queue it.
    """

    __slots__ = ("_sinks",)

    def __init__(self) -> None:
        self._sinks: dict[int, EventSink] = {}

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        """Begin to call *sink*; the answer ends it, and may be called twice."""
        key = max(self._sinks, default=0) + 1
        self._sinks[key] = sink

        def unsubscribe() -> None:
            self._sinks.pop(key, None)

        return unsubscribe

    def emit(self, event: DomainEvent | HelperEvent) -> None:
        """Tell every sink that is subscribed now; one that a sink ends meanwhile is not called any more."""
        for key in tuple(self._sinks):
            sink = self._sinks.get(key)
            if sink is not None:
                sink(event)


def lifecycle(domain: DomainRef, event: Lifecycle, detail: int) -> DomainEvent:
    """A lifecycle event with libvirt's numbers (``virDomainEventType`` and its details)."""
    return DomainEvent(EventId.LIFECYCLE, domain, {"event": int(event), "detail": int(detail)})
