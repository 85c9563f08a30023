"""`seepage`: commands are imported when they are called, so that `--help` is instant.

Exit codes: 0 done, 1 some attack failed, 2 bad configuration or input, 3 a gate was crossed or a claim violated,
130 interrupted.
"""

import sys
from importlib import import_module

import click

from seepage import __version__
from seepage.core.errors import SeepageError

COMMANDS = {
    "audit": "Attack the victim an audit file describes; write the record and a report.",
    "rounds": "Audit every update of a recorded federated run, round by round.",
    "plan": "Say what an audit would run, what it would cost and what is there already.",
    "sweep": "Audit a federation at every setting of a grid; write the frontier of leakage and cost.",
    "list": "List the attacks, defenses, leaks or built-in data sets.",
    "show": "Show one attack, defense or data set: parameters, needs, source.",
    "report": "Write the report of a run again.",
    "compare": "Hold two runs against each other.",
    "runs": "List the runs.",
    "prior": "Train a prior from public records, or show one.",
    "corpus": "Put canaries into training data before a model is trained on it.",
    "doctor": "Say which versions and devices are here and what each extra enables.",
}


class Commands(click.Group):
    """A group whose commands are modules of this package, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"seepage.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            from seepage.core.errors import did_you_mean

            raise click.UsageError(f"no command '{args[0]}': {did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The short helps stand above, so that listing the commands imports none of them.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="seepage")
def seepage() -> None:
    """Measure what a trained model gives away about the data it was trained on, and stop it.

    Start with:  seepage audit examples/faces.toml
    """


def main() -> None:
    """Run the command line; what a user can mend is one message and exit code 2."""
    try:
        seepage.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("\nInterrupted. What is finished is kept: run the same command again to go on.", err=True)
        sys.exit(130)
    except SeepageError as error:
        click.echo(f"seepage: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe has gone (`seepage list | head`): nothing to say, and nobody to say it to.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
