"""The shortest durable agent. Run it again: the session goes on, also after a crash."""

import asyncio
import os

from lash_runtime import LashCore, tool
from lash_runtime.providers.openai import OpenAICompatibleProvider
from lash_runtime.testing import Call, ScriptedProvider


@tool
async def weather(city: str) -> str:
    """Look up the weather in a city."""
    return f"{city}: 4 degrees, rain from noon"


script = [Call.tool("call-1", "weather", {"city": "Oslo"}), Call.text("A coat and boots.")]
real = "OPENAI_API_KEY" in os.environ
provider = OpenAICompatibleProvider() if real else ScriptedProvider(script)


async def main() -> None:
    core = LashCore.open("agents.db", provider=provider, model="gpt-5.4", tools=[weather])
    async with core, core.session("chat-42") as session:
        output = await session.turn("What should I wear in Oslo?").run()
        print(output.assistant_message, f"({len(session.read_view().messages)} messages)")


asyncio.run(main())
