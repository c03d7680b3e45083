"""``virlet events``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.values import Event

__all__ = ["events"]


@command()
@domain_argument(required=False)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="End when none came for so long.")
@pass_app
def events(app: App, name: str | None, count: int | None, timeout: float | None) -> None:
    """Print events as they happen.

    A line each, until Ctrl-C: time, domain, event, what it says. Without NAME of all domains. From virletd also what
    happens to helpers: "helper" with the interface, "lost", "restarted", "gave-up", "port-failed", "waiting" or
    "followed", and a message.
    """
    with app.connection() as server:
        domain = app.find(server, name) if name else None
        with server.events(domain=domain) as stream:
            left = count
            while left != 0 and (event := stream.next(timeout)) is not None:
                now = datetime.now(UTC)
                app.output.record(_json(event, now), _line(app, event, now))
                left = None if left is None else left - 1


def _json(event: Event, now: datetime) -> dict[str, object]:
    from virlet.cli.words import event_words

    found: dict[str, object] = {
        "time": _time(now),
        "name": event.name,
        "uuid": event.uuid,
        "id": event.id,
        "event": event.kind,
        "values": dict(event.values),
    }
    if event.kind == "lifecycle":
        found["change"], found["detail"] = event_words(*_numbers(event))
    return found


def _line(app: App, event: Event, now: datetime) -> str:
    from virlet.cli.output import clean
    from virlet.cli.words import event_words

    if event.kind == "lifecycle":
        text = " ".join(event_words(*_numbers(event)))
    elif event.kind == "helper":
        text = "{alias} {kind}: {message}".format_map(dict(event.values))
    else:
        text = " ".join(f"{name}={value}" for name, value in event.values.items())
    parts = [_time(now), event.name, event.kind, text or "-"]
    return ("  " if app.output.terminal else "\t").join(map(clean, parts))


def _numbers(event: Event) -> tuple[int, int]:
    change, detail = event.values["event"], event.values["detail"]
    assert isinstance(change, int)
    assert isinstance(detail, int)
    return change, detail


def _time(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
