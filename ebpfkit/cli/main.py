"""The `ebpfkit` command: finds the subcommand, turns errors into one line and an exit status.

Command modules are imported only when they run, so that `ebpfkit --help` stays light.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import cast

import click

from ebpfkit.cli.status import exit_status
from ebpfkit.errors import EbpfError

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS = {
    "build": "Compile a Python file to an eBPF object.",
    "verify": "Predict the kernel's verdict without a kernel.",
    "explain": "Say what a rule of the verifier, or a kernel's log, means.",
    "run": "Run a program on packets in the virtual machine, without root.",
    "diff-run": "Run a program in several executors and compare them.",
    "load": "Verify, load and attach an XDP program to a device.",
    "unload": "Detach what `load --pin` left on a device.",
    "show": "Show what an object holds and needs, and from which kernel on.",
    "link": "Join several eBPF objects into one.",
    "btf": "Show types as C or Python, or cut a kernel's types down.",
    "asm": "Assemble text into instruction bytes.",
    "disasm": "Print the instructions of an object or of raw bytes.",
    "demo": "See the whole road at work: compile, verify, run, attach, AF_XDP.",
    "probe": "Show what this kernel, or a device, can do.",
    "xsk": "AF_XDP sockets from the shell: drop, send, forward, capture.",
    "doctor": "Check host and device for XDP and AF_XDP, and say what mends what.",
}


class LazyGroup(click.Group):
    """Lists its commands from a table and imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ebpfkit.cli.{cmd_name.replace('-', '_')}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(
                f"no command {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(COMMANDS)}")
            )
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ebpfkit", prog_name="ebpfkit")
def cli() -> None:
    """An eBPF toolchain in pure Python.

    A FILE is a Python file with decorated functions, or an eBPF object (.o) of any compiler.
    Every command takes --json.

    \b
    Exit status: 0 done or accepted; 1 rejected by a verifier; 2 usage or bad input;
    3 refused by the environment (privileges, device, missing feature); 4 not supported by ebpfkit yet.
    """


def main() -> None:
    """The console entry point."""
    try:
        status = cli.main(standalone_mode=False)
    except EbpfError as error:
        click.echo(f"ebpfkit: {error.render()}", err=True)
        status = exit_status(error)
    except click.exceptions.Abort:
        status = 130
    except click.ClickException as error:
        error.show()
        status = 2
    except click.exceptions.Exit as error:
        status = error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`ebpfkit ... | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status if isinstance(status, int) else 0)
