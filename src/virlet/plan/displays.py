"""Displays, video cards, sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.model.graphics import Graphics, GraphicsListen, GraphicsType, ListenType, Video, VideoModel
from virlet.plan.base import Access, FileNeed, Json, QmpCommand, Word
from virlet.plan.place import Member, given, place
from virlet.plan.words import Piece, Scene, device, escape, virtio

__all__ = ["VIDEO_DRIVERS", "audio", "displays", "video_driver", "videos", "vnc_autoport"]

FIRST_VNC_PORT = 5900
_LAST_DISPLAY = 65_535 - FIRST_VNC_PORT

VIDEO_DRIVERS: dict[str, tuple[str, str]] = {
    "vga": ("VGA", "secondary-vga"),
    "cirrus": ("cirrus-vga", "cirrus-vga"),
    "virtio": ("virtio-vga", "virtio-gpu-pci"),
    "qxl": ("qxl-vga", "qxl"),
    "bochs": ("bochs-display", "bochs-display"),
    "ramfb": ("ramfb", "ramfb"),
    "vmvga": ("vmware-svga", "vmware-svga"),
}
"""Model → QEMU's device as the first card, and as another one."""


def audio(scene: Scene) -> Piece:
    """Silence; without it, QEMU would look for a sound server."""
    return Piece(
        tuple(
            word
            for item in scene.domain.devices.audios
            for word in ("-audiodev", Json({"id": f"audio{item.id}", "driver": "none"}))
        )
    )


def displays(scene: Scene) -> Iterator[Piece]:
    """VNC servers."""
    for number, display in enumerate(scene.domain.devices.graphics, 1):
        if display.type is GraphicsType.VNC:
            yield _vnc(display, f"devices/graphics[{number}]", scene)


def vnc_autoport(scene: Scene) -> bool:
    """Does QEMU look for a free port?"""
    return any(_is_auto(display) for display in scene.domain.devices.graphics)


def _is_auto(display: Graphics) -> bool:
    listens = display.listens
    return (
        display.type is GraphicsType.VNC
        and (not listens or listens[0].type is ListenType.ADDRESS)
        and (display.port is None or display.port <= 0)
    )


def _vnc(display: Graphics, where: str, scene: Scene) -> Piece:
    listen = display.listens[0] if display.listens else GraphicsListen(type=ListenType.ADDRESS, address=display.listen)
    leaves: tuple[Path, ...] = ()
    files: tuple[FileNeed, ...] = ()
    match listen.type:
        case ListenType.SOCKET:
            path = Path(listen.socket or display.socket or scene.dirs.runtime / "vnc.sock")
            words, leaves = [f"vnc=unix:{escape(str(path))}"], (path,)
            if path.parent != scene.dirs.runtime:
                files = (FileNeed(path, Access.BIND, f"{where}/listen/@socket", "socket of VNC"),)
        case ListenType.NONE:
            words = ["none"]
        case _:
            words = [_address(display, listen)]
    if display.share_policy is not None:
        words.append(f"share={display.share_policy}")
    if display.power_control is not None:
        words.append(f"power-control={'on' if display.power_control else 'off'}")
    if display.websocket is not None:
        words.append("websocket=on" if display.websocket < 0 else f"websocket={display.websocket}")
    if display.passwd is not None:
        words.append("password=on")
    if scene.domain.devices.audios:
        words.append(f"audiodev=audio{display.audio_id or scene.domain.devices.audios[0].id}")
    option: tuple[Word, ...] = ("-vnc", ",".join(words))
    if display.keymap:
        option += ("-k", display.keymap)
    return Piece(option, files=files, leaves=leaves, before_cont=tuple(_password(display)))


def _address(display: Graphics, listen: GraphicsListen) -> str:
    host = listen.address or display.listen or "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    if _is_auto(display):
        # QEMU binds the first free port itself, so nobody can take it between a look and the bind.
        return f"{host}:0,to={_LAST_DISPLAY}"
    return f"{host}:{(display.port or FIRST_VNC_PORT) - FIRST_VNC_PORT}"


def _password(display: Graphics) -> Iterator[QmpCommand]:
    if display.passwd is not None:
        yield QmpCommand("set_password", {"protocol": "vnc", "password": display.passwd})


def videos(scene: Scene) -> Iterator[Piece]:
    """Video cards."""
    for number, video in enumerate(scene.domain.devices.videos):
        model = video.model
        driver = video_driver(video, first=number == 0)
        if model is not None and driver is not None:
            members = (*virtio(video.driver), ("id", video.alias), *_memory(driver, model))
            yield Piece(device(driver, (*members, *place(video.address, scene.bus_ids))))


def video_driver(video: Video, *, first: bool) -> str | None:
    """QEMU's device for a card; None when there is to be none."""
    model = video.model
    if model is None or model.type == "none":
        return None
    primary = first if model.primary is None else model.primary
    names = VIDEO_DRIVERS.get(model.type)
    return model.type if names is None else names[0 if primary else 1]


def _memory(driver: str, model: VideoModel) -> Iterator[Member]:
    match driver:
        case "VGA" | "secondary-vga":
            yield from given(("vgamem_mb", None if model.vram is None else max(1, model.vram // 1024)))
        case "virtio-vga" | "virtio-gpu-pci":
            yield from given(("max_outputs", model.heads))
            yield from given(("xres", model.x), ("yres", model.y))
        case "qxl-vga" | "qxl":
            yield from given(
                ("max_outputs", model.heads),
                ("ram_size", None if model.ram is None else model.ram * 1024),
                ("vram_size", None if model.vram is None else model.vram * 1024),
                ("vram64_size_mb", None if model.vram64 is None else model.vram64 // 1024),
                ("vgamem_mb", None if model.vgamem is None else model.vgamem // 1024),
            )
        case "bochs-display":
            yield from given(("vgamem", None if model.vram is None else model.vram * 1024))
