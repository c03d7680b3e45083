"""The program ``virlet``: runs a command and turns whatever comes out of it into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from virlet.cli.exits import Exit

__all__ = ["main", "run"]


def main() -> None:
    """The console script."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown escaped, it must not end the program.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = int(Exit.INTERRUPTED)
    finally:
        _give_up_output()
    sys.exit(code)


def _open_streams() -> None:
    """Standard streams that the caller has closed lead nowhere; otherwise a socket of ours would get their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, closefd=False))  # noqa: SIM115


def _give_up_output() -> None:
    """What standard output did not take has been reported; Python would try again, complain, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: Sequence[str]) -> int:
    """Run the command line *args*; the exit code."""
    import click

    from virlet.cli.app import App
    from virlet.cli.report import complain, report
    from virlet.cli.root import root

    if not args and "_VIRLET_COMPLETE" not in os.environ:
        click.echo(root.get_help(click.Context(root, info_name="virlet")), err=True)
        return Exit.USAGE
    app = App(as_json="--json" in args, debug="--debug" in args)
    try:
        outcome = root.main(list(args), prog_name="virlet", standalone_mode=False, obj=app)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "virlet"
        complain(error.format_message(), [f"see '{where} --help'"], as_json=app.as_json)
        return Exit.USAGE
    except click.ClickException as error:
        complain(error.format_message(), as_json=app.as_json)
        return Exit.FAILED
    except click.Abort:
        return Exit.INTERRUPTED
    except Exception as error:  # the one place where everything ends: a message, not a traceback
        if app.debug:
            import traceback

            traceback.print_exc()
        return report(error, as_json=app.as_json)
    return outcome if isinstance(outcome, int) else Exit.OK
