"""The models of a gateway in the `llm` tool (llm.datasette.io), and in programs built on it.

`llm` loads this module in each of its starts and asks it for models at each look-up, so it imports little and asks nobody: the
names come from a file that `llm tollhouse refresh` writes.  A model is `tollhouse/NAME`, and plain `NAME` where no other plugin
has one of that name.
"""

from collections.abc import Callable
from typing import Any

import click
import llm

from tollhouse.client.llm_plugin.known import known_models
from tollhouse.client.llm_plugin.models import AsyncGatewayModel, EmbeddingGatewayModel, Gateway, GatewayModel

PREFIX = "tollhouse/"


@llm.hookimpl(tryfirst=True)  # of two models with one name the last one counts, and a person's own keys come before us
def register_models(register: Callable[..., None]) -> None:
    """Every model of the gateway, synchronous and not."""
    gateway = Gateway()
    for name in known_models():
        register(
            GatewayModel(PREFIX + name, name, gateway),
            AsyncGatewayModel(PREFIX + name, name, gateway),
            aliases=(name,),
        )


@llm.hookimpl(tryfirst=True)
def register_embedding_models(register: Callable[..., None]) -> None:
    """Those whose names say that they make embeddings: the gateway's list does not tell them apart."""
    gateway = Gateway()
    for name in known_models():
        if "embed" in name:
            register(EmbeddingGatewayModel(PREFIX + name, name, gateway), aliases=(name,))


@llm.hookimpl
def register_commands(cli: Any) -> None:
    """`llm tollhouse refresh` and `llm tollhouse models`."""

    @cli.group(name="tollhouse")  # type: ignore[untyped-decorator]  # click's group of another package
    def tollhouse() -> None:
        """The models of a Tollhouse gateway."""

    @tollhouse.command()  # type: ignore[untyped-decorator]
    def refresh() -> None:
        """Ask the gateway which models it has, and remember them."""
        from tollhouse.client.failures import ClientError
        from tollhouse.client.llm_plugin.known import remember

        try:
            where, names = Gateway().names()
        except ClientError as error:
            raise click.ClickException(str(error)) from error
        remember(where, names)
        click.echo(f"{len(names)} models of {where}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}")

    @tollhouse.command(name="models")  # type: ignore[untyped-decorator]
    def models() -> None:
        """Show the models that are remembered."""
        names = known_models()
        if not names:
            raise click.ClickException("No models are remembered yet: run `llm tollhouse refresh`.")
        for name in names:
            click.echo(PREFIX + name)
