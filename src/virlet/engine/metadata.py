"""Title, description and foreign elements of a guest, changed while it runs, in its definition, or both."""

from __future__ import annotations

from virlet.engine.define import save_definition
from virlet.engine.guest import Guest
from virlet.enums import Affect, EventId, MetadataType
from virlet.errors import OperationInvalid
from virlet.model.metadata import MetadataChange, with_metadata

__all__ = ["set_metadata"]


async def set_metadata(guest: Guest, change: MetadataChange, affect: Affect) -> None:
    """Make *change* in the running form, the definition or both; the definition has reached the disk on return.

    Raises :class:`OperationInvalid` for a form that the guest does not have.
    """
    async with guest.context.names:
        live, config = guest.live, guest.config
        if affect & Affect.LIVE and live is None:
            raise OperationInvalid("domain is not running")
        if affect & Affect.CONFIG and config is None:
            raise OperationInvalid("transient domains do not have any persistent config")
        fresh = with_metadata(live, change) if affect & Affect.LIVE and live is not None else None
        if affect & Affect.CONFIG and config is not None:
            config = with_metadata(config, change)
            await save_definition(guest, config)
            guest.config = config
        if fresh is not None and guest.live is live:
            guest.live = fresh
            guest.origin = with_metadata(guest.origin, change)
        guest.changed()
    guest.save()
    uri = change.uri if change.kind is MetadataType.ELEMENT else None
    guest.emit_other(EventId.METADATA_CHANGE, type=int(change.kind), nsuri=uri)
