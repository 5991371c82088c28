"""What each tool wants to be told.  The agents of `tests/clients` are set up with it, at the versions there.

A model is named where a tool cannot do without; `default` is the one that the gateway's operator chose.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from tollhouse.client.tools.plan import (
    DotEnv,
    Gateway,
    Json,
    JsonFile,
    OwnFile,
    Places,
    Plan,
    Sample,
    TomlTables,
    YamlBlock,
)

DEFAULT_MODEL: Final = "default"
NAME: Final = "tollhouse"
"""What our entries are called in the files of others."""
CODEX_KEY: Final = "TOLLHOUSE_CODEX_KEY"
"""A variable of its own: `TOLLHOUSE_KEY` would also be what our own client shows to every gateway."""
CONTEXT_TOKENS: Final = 128_000
ANSWER_TOKENS: Final = 16_384

Recipe: TypeAlias = Callable[[Gateway, Places], Plan]


def plan_of(tool: str, gateway: Gateway, places: Places) -> Plan:
    """The plan of a tool.  Raises `KeyError` for one that is not in `TOOLS`."""
    plan = TOOLS[tool][1](gateway, places)
    if plan.variables is None:
        return plan
    file = OwnFile(path=places.own / "env" / f"{tool}.sh", text=exports(plan.variables), is_private=True)
    return replace(plan, files=(*plan.files, file), command=f". {shell_path(file.path)}\n{plan.command}")


def shell_path(path: Path) -> str:
    """A path as a shell takes it; a `~` at its beginning stays one."""
    text = str(path)
    return f"~/{shlex.quote(text[2:])}" if text.startswith("~/") else shlex.quote(text)


def exports(variables: Mapping[str, str]) -> str:
    """Variables as a POSIX shell sets them."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


# ---------------------------------------------------------------------------------------------------------------- agents


def _claude(gateway: Gateway, places: Places) -> Plan:
    # ANTHROPIC_AUTH_TOKEN and not ANTHROPIC_API_KEY: with the latter, Claude Code asks at its next start whether to use it.
    variables = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_AUTH_TOKEN": gateway.key}
    if gateway.model is not None:
        variables |= {"ANTHROPIC_MODEL": gateway.model, "ANTHROPIC_DEFAULT_HAIKU_MODEL": gateway.model}
    folder = places.moved("CLAUDE_CONFIG_DIR", ".claude")
    return Plan(
        tool="claude",
        title="Claude Code",
        files=(JsonFile(path=folder / "settings.json", entries={"env": variables}, is_private=True),),
        command="claude",
        notes=(
            "Without a model it asks for Claude by its own names, which a gateway with the provider `anthropic` knows.",
            "`CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1` keeps it from asking anybody but the gateway.",
            "It has a warning for names of models that it does not know, and works with them.",
        ),
    )


def _codex(gateway: Gateway, places: Places) -> Plan:
    folder = places.moved("CODEX_HOME", ".codex")
    provider = {
        "name": "Tollhouse",
        "base_url": f"{gateway.url}/v1",
        "env_key": CODEX_KEY,
        "wire_api": "responses",
    }
    model = "" if gateway.model is None else f"model = {json.dumps(gateway.model)}\n"
    return Plan(
        tool="codex",
        title="Codex CLI",
        files=(
            TomlTables(path=folder / "config.toml", tables={f"model_providers.{NAME}": provider}),
            OwnFile(path=folder / f"{NAME}.config.toml", text=f'model_provider = "{NAME}"\n{model}'),
        ),
        variables={CODEX_KEY: gateway.key},
        command=f"codex --profile {NAME}",
        notes=(
            "Older versions have no second file; there it is `codex -c model_provider=tollhouse`.",
            "Without a model it asks for one of OpenAI's by its own name.",
        ),
    )


def _gemini(gateway: Gateway, places: Places) -> Plan:
    folder = places.moved("GEMINI_CLI_HOME") / ".gemini"
    variables = {"GOOGLE_GEMINI_BASE_URL": gateway.url, "GEMINI_API_KEY": gateway.key}
    if gateway.model is not None:
        variables["GEMINI_MODEL"] = gateway.model
    return Plan(
        tool="gemini",
        title="Gemini CLI",
        files=(
            JsonFile(
                path=folder / "settings.json",
                entries={"security": {"auth": {"selectedType": "gemini-api-key"}}},
            ),
            DotEnv(path=folder / ".env", variables=variables),
        ),
        command="gemini",
        notes=(
            "It reads one `.env` alone: one in the working folder or above it hides this one.",
            "Without a model it first asks `gemini-3.5-flash-lite` which model suits the question, and then that one.",
        ),
    )


def _qwen(gateway: Gateway, places: Places) -> Plan:
    folder = places.moved("QWEN_HOME", ".qwen")
    return Plan(
        tool="qwen",
        title="Qwen Code",
        files=(
            JsonFile(
                path=folder / "settings.json",
                entries={
                    "security": {"auth": {"selectedType": "openai"}},
                    "model": {"name": gateway.model or DEFAULT_MODEL},
                    "privacy": {"usageStatisticsEnabled": False},
                },
            ),
            DotEnv(
                path=folder / ".env",
                variables={
                    "OPENAI_BASE_URL": f"{gateway.url}/v1",
                    "OPENAI_API_KEY": gateway.key,
                    "OPENAI_MODEL": gateway.model or DEFAULT_MODEL,
                },
            ),
        ),
        command="qwen",
        notes=(
            "It reads one `.env` alone: one in the working folder or above it hides this one.",
            "After an answer it asks the model once more, for what is worth remembering.",
        ),
    )


def _opencode(gateway: Gateway, places: Places) -> Plan:
    model = gateway.model or DEFAULT_MODEL
    key_file = OwnFile(path=places.own / "env" / "opencode.key", text=gateway.key + "\n", is_private=True)
    provider: Json = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Tollhouse",
        "options": {"baseURL": f"{gateway.url}/v1", "apiKey": f"{{file:{key_file.path}}}"},
        "models": {model: {"name": model}},
    }
    return Plan(
        tool="opencode",
        title="opencode",
        files=(
            JsonFile(path=places.config / "opencode" / "opencode.json", entries={"provider": {NAME: provider}}),
            key_file,
        ),
        command=f"opencode --model {NAME}/{model}",
        notes=("Before the first answer of a session it asks the model for a title.",),
    )


def _pi(gateway: Gateway, places: Places) -> Plan:
    model = gateway.model or DEFAULT_MODEL
    provider: Json = {
        "baseUrl": f"{gateway.url}/v1",
        "api": "openai-completions",
        "apiKey": gateway.key,
        "models": [{"id": model, "contextWindow": CONTEXT_TOKENS, "maxTokens": ANSWER_TOKENS}],
    }
    folder = places.moved("PI_CODING_AGENT_DIR", ".pi", "agent")
    return Plan(
        tool="pi",
        title="pi",
        files=(JsonFile(path=folder / "models.json", entries={"providers": {NAME: provider}}, is_private=True),),
        command=f"pi --provider {NAME} --model {model}",
        notes=(
            (
                "`api` may also be `openai-responses`, `anthropic-messages` (with a `baseUrl` that has no `/v1`) or "
                "`google-generative-ai` (with one that ends in `/v1beta`)."
            ),
        ),
    )


def _aider(gateway: Gateway, places: Places) -> Plan:
    del places
    return Plan(
        tool="aider",
        title="aider",
        variables={"OPENAI_API_BASE": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key},
        command=f"aider --model openai/{gateway.model or DEFAULT_MODEL}",
        notes=("Its exit status is 0 also when the model could not be asked.",),
    )


def _llm(gateway: Gateway, places: Places) -> Plan:
    model = gateway.model or DEFAULT_MODEL
    folder = (
        places.moved("LLM_USER_PATH") if places.environ.get("LLM_USER_PATH") else places.config / "io.datasette.llm"
    )
    item = {
        "model_id": f"{NAME}-{model}",
        "model_name": model,
        "api_base": f"{gateway.url}/v1",
        "api_key_name": NAME,
        "supports_tools": True,
        "supports_schema": True,
        "vision": True,
    }
    lines = "".join(
        f"{'- ' if n == 0 else '  '}{name}: {json.dumps(value)}\n" for n, (name, value) in enumerate(item.items())
    )
    return Plan(
        tool="llm",
        title="llm",
        files=(
            YamlBlock(path=folder / "extra-openai-models.yaml", text=lines),
            JsonFile(path=folder / "keys.json", entries={NAME: gateway.key}, is_private=True),
        ),
        command=f"llm -m {NAME}-{model} 'Say hello.'",
        notes=("With Tollhouse's plugin (docs/llm.md) it knows every model of the gateway; this way it needs none.",),
    )


# ------------------------------------------------------------------------------------------------------------- libraries


def _openai(gateway: Gateway, places: Places) -> Plan:
    del places
    model = gateway.model or DEFAULT_MODEL
    return Plan(
        tool="openai",
        title="openai (Python, JavaScript)",
        variables={"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key},
        samples=(
            Sample(
                language="python",
                text="from openai import OpenAI\n\n"
                f'answer = OpenAI().responses.create(model="{model}", input="Say hello.")\n'
                "print(answer.output_text)\n",
            ),
        ),
        command="python program.py",
        notes=("Most other libraries and tools that speak to OpenAI read the same two variables.",),
    )


def _anthropic(gateway: Gateway, places: Places) -> Plan:
    del places
    model = gateway.model or DEFAULT_MODEL
    return Plan(
        tool="anthropic",
        title="anthropic (Python), @anthropic-ai/sdk (JavaScript)",
        variables={"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_API_KEY": gateway.key},
        samples=(
            Sample(
                language="python",
                text="from anthropic import Anthropic\n\n"
                "answer = Anthropic().messages.create(\n"
                f'    model="{model}", max_tokens=1000, messages=[{{"role": "user", "content": "Say hello."}}]\n'
                ")\nprint(answer.content[0].text)\n",
            ),
        ),
        command="python program.py",
    )


def _google_genai(gateway: Gateway, places: Places) -> Plan:
    del places
    model = gateway.model or DEFAULT_MODEL
    return Plan(
        tool="google-genai",
        title="google-genai (Python), @google/genai (JavaScript)",
        variables={"GOOGLE_GEMINI_BASE_URL": gateway.url, "GEMINI_API_KEY": gateway.key},
        samples=(
            Sample(
                language="python",
                text="from google import genai\n\n"
                "client = genai.Client()\n"
                f'print(client.models.generate_content(model="{model}", contents="Say hello.").text)\n',
            ),
        ),
        command="python program.py",
        notes=("A `GOOGLE_API_KEY` in the environment comes before `GEMINI_API_KEY`: unset it.",),
    )


def _groq(gateway: Gateway, places: Places) -> Plan:
    del places
    return Plan(
        tool="groq",
        title="groq (Python)",
        variables={"GROQ_BASE_URL": gateway.url, "GROQ_API_KEY": gateway.key},
        samples=(
            Sample(
                language="python",
                text="from groq import Groq\n\n"
                "answer = Groq().chat.completions.create(\n"
                f'    model="{gateway.model or DEFAULT_MODEL}",\n'
                '    messages=[{"role": "user", "content": "Say hello."}],\n'
                ")\nprint(answer.choices[0].message.content)\n",
            ),
        ),
        command="python program.py",
        notes=("The address is without `/v1`: the library appends `/openai/v1/…`, which the gateway knows.",),
    )


def _vercel_ai(gateway: Gateway, places: Places) -> Plan:
    del places
    model = gateway.model or DEFAULT_MODEL
    return Plan(
        tool="vercel-ai",
        title="Vercel AI SDK",
        variables={"OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": gateway.key},
        samples=(
            Sample(
                language="javascript",
                text='import { openai } from "@ai-sdk/openai";\n'
                'import { generateText } from "ai";\n\n'
                f'const {{ text }} = await generateText({{ model: openai("{model}"), prompt: "Say hello." }});\n'
                "console.log(text);\n",
            ),
        ),
        command="node program.mjs",
        notes=(
            (
                f"For Anthropic's dialect `createAnthropic({{ baseURL: '{gateway.url}/v1', apiKey }})`, for Google's "
                f"`createGoogleGenerativeAI({{ baseURL: '{gateway.url}/v1beta', apiKey }})`."
            ),
            "`streamText` gives errors to `onError`; a text that was cut looks whole to a program that does not listen there.",
        ),
    )


def _curl(gateway: Gateway, places: Places) -> Plan:
    key = gateway.key.replace("\\", "\\\\").replace('"', '\\"')
    file = OwnFile(
        path=places.own / "env" / "curl.conf",
        text=f'header = "authorization: Bearer {key}"\nheader = "content-type: application/json"\n',
        is_private=True,
    )
    body = {"model": gateway.model or DEFAULT_MODEL, "messages": [{"role": "user", "content": "Say hello."}]}
    return Plan(
        tool="curl",
        title="curl",
        files=(file,),
        command=f"curl -K {shell_path(file.path)} {gateway.url}/v1/chat/completions -d {shlex.quote(json.dumps(body))}",
        notes=("The key is in a file because everybody on a machine can see the arguments of its processes.",),
    )


TOOLS: Final[Mapping[str, tuple[str, Recipe]]] = {
    "claude": ("Claude Code", _claude),
    "codex": ("Codex CLI", _codex),
    "gemini": ("Gemini CLI", _gemini),
    "qwen": ("Qwen Code", _qwen),
    "opencode": ("opencode", _opencode),
    "pi": ("pi", _pi),
    "aider": ("aider", _aider),
    "llm": ("llm, without the plugin", _llm),
    "openai": ("the openai libraries, and what reads their variables", _openai),
    "anthropic": ("the anthropic libraries", _anthropic),
    "google-genai": ("the google-genai libraries", _google_genai),
    "groq": ("the groq library", _groq),
    "vercel-ai": ("the Vercel AI SDK", _vercel_ai),
    "curl": ("curl", _curl),
}
"""What can be set up: what it is, and how."""
