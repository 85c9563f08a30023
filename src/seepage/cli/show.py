"""`seepage show NAME`."""

import inspect
import json
from typing import Any

import click


@click.command("show")
@click.argument("name")
def command(name: str) -> None:
    """Show one attack, defense, data set or recipe: what it does, parameters, needs, source."""
    from seepage.core.errors import ConfigError, did_you_mean
    from seepage.core.registry import ATTACKS, DEFENSES, attack_class, defense_class
    from seepage.data.builtin import DATASETS
    from seepage.models.recipes import RECIPES

    if name in set(ATTACKS):
        attack = attack_class(name)
        _card(name, attack.title, attack)
        click.echo(f"leak: {attack.leak}\nneeds: {', '.join(sorted(attack.needs))}")
        click.echo(f"works on: {', '.join(sorted(attack.modalities))}")
        click.echo(f"of victims that answer: {', '.join(sorted(attack.tasks))}")
        click.echo(f"needs public records: {'yes' if attack.needs_public else 'no'}")
        _parameters(attack)
        _sources(attack.cites)
    elif name in set(DEFENSES):
        defense = defense_class(name)
        _card(name, defense.title, defense)
        _parameters(defense)
        _sources(defense.cites)
    elif name in DATASETS:
        found = DATASETS[name]
        click.echo(f"{name}: {found.title}\ncredit: {found.credit}\nmodality: {found.modality}")
    elif name in RECIPES:
        recipe = RECIPES[name]
        click.echo(f"{name}: {recipe.title}\n\n{inspect.cleandoc(recipe.fit.__doc__ or '')}")
        click.echo("\noptions:")
        for option, parameter in list(inspect.signature(recipe.fit).parameters.items())[3:]:
            click.echo(f"  {option} = {parameter.default}")
    else:
        known = [*ATTACKS, *DEFENSES, *DATASETS, *RECIPES]
        raise ConfigError(f"nothing is called '{name}': {did_you_mean(name, known)}")


def _card(name: str, title: str, cls: type) -> None:
    click.echo(f"{name}: {title}\n\n{inspect.cleandoc(cls.__doc__ or '')}\n")


def _parameters(cls: Any) -> None:
    click.echo("\nparameters:")
    for field, told in cls.model_json_schema().get("properties", {}).items():
        limits = ", ".join(
            f"{sign} {told[key]}"
            for key, sign in (
                ("minimum", ">="),
                ("exclusiveMinimum", ">"),
                ("maximum", "<="),
                ("exclusiveMaximum", "<"),
            )
            if key in told
        )
        choice = f" one of {told['enum']}" if "enum" in told else ""
        described = told.get("description", "")
        click.echo(
            f"  {field} = {json.dumps(told.get('default'))}{choice}  {described}{f' ({limits})' if limits else ''}"
        )


def _sources(cites: tuple[str, ...]) -> None:
    click.echo("\nsource:")
    for cite in cites:
        click.echo(f"  {cite}")
