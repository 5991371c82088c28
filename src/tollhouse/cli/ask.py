"""`tollhouse ask`: one question through whatever is configured, answered on the terminal as it is made."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from tollhouse.chat.usage import Usage
    from tollhouse.client.answer import Answer, Marks
    from tollhouse.client.conversation import Asking
    from tollhouse.client.synchronous import Client

MAX_INPUT_BYTES: Final = 8 * 1024 * 1024
BAD_USE: Final = 2
REFUSED: Final = 1
BROKEN: Final = 3
INTERRUPTED: Final = 130
"""Exit statuses.  0 is a whole answer; 130 is what shells expect of a program that Ctrl-C ended."""


@click.command("ask", help="Ask a model, and print its answer as it comes. PROMPT - or a pipe is read too.")
@click.argument("prompt", nargs=-1)
@click.option("-m", "--model", help="The model; else TOLLHOUSE_MODEL, the profile's, or the gateway's default.")
@click.option("-s", "--system", help="Instructions that come before the prompt.")
@click.option("--fallback-model", "fallback_models", multiple=True, help="Asked if that fails; may be repeated.")
@click.option("--max-tokens", type=click.IntRange(1), help="The longest answer, in tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="How freely it may choose its words.")
@click.option("--schema", type=click.Path(dir_okay=False), help="A file with the JSON schema of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the answer, who gave it, what it cost.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is whole.")
@click.option("--url", help="The gateway's address, in place of the configured one.")
@click.option("--profile", help="The gateway of this profile; see `tollhouse setup-proxy list`.")
@click.option("--direct", is_flag=True, help="Ask the provider without a gateway.")
@click.option("--timeout", type=click.FloatRange(0.1), help="Seconds that it may take.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the answer.")
def command(
    *,
    prompt: tuple[str, ...],
    model: str | None,
    system: str | None,
    fallback_models: tuple[str, ...],
    max_tokens: int | None,
    temperature: float | None,
    schema: str | None,
    as_json: bool,
    no_stream: bool,
    url: str | None,
    profile: str | None,
    direct: bool,
    timeout: float | None,
    quiet: bool,
) -> None:
    """Exit status: 0 a whole answer, 1 nobody answered, 2 a mistake on the command line, 3 the answer broke off, 130 Ctrl-C."""
    from tollhouse.client.conversation import Asking
    from tollhouse.client.setup import Options
    from tollhouse.client.synchronous import Client

    # gRPC's library has words of its own for a failed handshake, in the middle of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    question = _question(prompt)
    asking = Asking()
    if system is not None:
        asking["system"] = system
    if max_tokens is not None:
        asking["max_output_tokens"] = max_tokens
    if temperature is not None:
        asking["temperature"] = temperature
    if schema is not None:
        asking["schema"] = _schema(schema)
    if direct and (url or profile):
        raise click.UsageError("--direct asks no gateway, so it goes with neither --url nor --profile.")
    options = Options(mode="direct" if direct else "proxy" if url or profile else None, timeout=timeout)
    with Client(url, profile=profile, **options) as client:
        asked = _Asked(client, question, asking, model, fallback_models or None)
        if as_json or no_stream:
            answer = asked.whole()
            print(_as_json(answer) if as_json else answer.text)
        else:
            answer = asked.streamed()
    if not quiet and not as_json and sys.stderr.isatty():
        print(_summary(answer.marks, answer.usage), file=sys.stderr)


class _Asked:
    """The call, and its ways to fail."""

    def __init__(
        self,
        client: "Client",
        question: str,
        asking: "Asking",
        model: str | None,
        fallback_models: tuple[str, ...] | None,
    ) -> None:
        self._client = client
        self._question = question
        self._asking = asking
        self._model = model
        self._fallback_models = fallback_models

    def whole(self) -> "Answer":
        """The answer when it is whole."""
        from tollhouse.client.failures import CallFailed

        try:
            return self._client.chat(
                self._question, model=self._model, fallback_models=self._fallback_models, **self._asking
            )
        except KeyboardInterrupt:
            _end("", INTERRUPTED)
        except CallFailed as error:
            _end(_words(error), REFUSED)

    def streamed(self) -> "Answer":
        """Prints the answer as it comes."""
        from tollhouse.client.failures import CallFailed

        begun = False
        try:
            with self._client.stream(
                self._question, model=self._model, fallback_models=self._fallback_models, **self._asking
            ) as stream:
                for text in stream:
                    begun = True
                    sys.stdout.write(_shown(text))
                    sys.stdout.flush()
                answer = stream.answer
        except KeyboardInterrupt:
            _end("\n" if begun and sys.stdout.isatty() else "", INTERRUPTED)
        except BrokenPipeError:
            # Whoever read along has had enough; the interpreter must not complain about the rest at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(REFUSED)
        except CallFailed as error:
            if begun:
                print(flush=True)
            _end(_words(error), BROKEN if begun else REFUSED)
        if answer.refusal:
            sys.stdout.write(_shown(answer.refusal))
        if not (answer.text + answer.refusal).endswith("\n"):
            print(flush=True)
        return answer


def _shown(text: str) -> str:
    """Text for standard output: on a terminal, without what it would take for orders."""
    if not sys.stdout.isatty():
        return text
    return "".join(character for character in text if character in "\n\t" or character.isprintable())


def _words(error: Exception) -> str:
    request_id = getattr(error, "request_id", "")
    return f"tollhouse: {error}" + (f" (request {request_id})" if request_id and request_id not in str(error) else "")


def _end(words: str, status: int) -> NoReturn:
    if words.strip():
        print(words, file=sys.stderr)
    elif words:
        sys.stdout.write(words)
    sys.exit(status)


def _question(words: tuple[str, ...]) -> str:
    """The prompt: the words, and what is piped in, below each other."""
    text = " ".join(word for word in words if word != "-")
    piped = ""
    if "-" in words or not sys.stdin.isatty():
        data = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        if len(data) > MAX_INPUT_BYTES:
            raise click.UsageError(f"More than {MAX_INPUT_BYTES // 1024 // 1024} MiB came in by the pipe.")
        try:
            piped = data.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise click.UsageError("What came in by the pipe is not UTF-8 text.") from None
    question = "\n\n".join(part for part in (text, piped) if part.strip())
    if not question:
        raise click.UsageError('What shall be asked?  tollhouse ask "explain kubernetes pods"')
    return question


def _schema(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--schema: {path}: {error.strerror or error}.") from error


def _summary(marks: "Marks", usage: "Usage") -> str:
    """One line about the answer, for the person at the terminal."""
    parts = [marks.model or marks.where]
    counts = (("in", usage.input_tokens), ("out", usage.output_tokens))
    parts += [f"{count:,} {word}" for word, count in counts if count is not None]
    if marks.cost_nano is not None:
        parts.append(f"${marks.cost_nano / 1e9:.6f}")
    parts.append("directly" if marks.mode == "direct" else f"through {marks.where}")
    if marks.fell_back_to_direct:
        parts.append("because the gateway is down")
    if marks.receipt:
        parts.append(marks.receipt)
    return " · ".join(parts)


def _as_json(answer: "Answer") -> str:
    import msgspec

    marks = answer.marks
    fields: Mapping[str, object] = {
        "text": answer.text,
        "finish": answer.finish,
        "model": answer.model,
        "usage": answer.usage,
        "cost_nano_usd": answer.cost_nano,
        "request_id": answer.request_id,
        "receipt": answer.receipt,
        "mode": marks.mode,
        "protocol": marks.protocol,
        "where": marks.where,
        "attempts": marks.attempts,
        "fell_back_to_model": marks.fell_back_to_model,
        "fell_back_to_direct": marks.fell_back_to_direct,
    }
    return msgspec.json.encode(fields).decode()
