// Tool loops with `@anthropic-ai/sdk`.
import Anthropic from "@anthropic-ai/sdk";
import { answers, PROMPT, ran, SCHEMA, DESCRIPTION } from "./loops.mjs";

const tools = [{ name: "run_command", description: DESCRIPTION, input_schema: SCHEMA }];

await answers(async ({ base, apiKey, model, how }) => {
  const client = new Anthropic({ baseURL: base, apiKey, maxRetries: 0 });
  const messages = [{ role: "user", content: PROMPT }];
  const ask = async () => {
    const request = { model, max_tokens: 4000, messages, tools };
    return how === "whole" ? client.messages.create(request) : client.messages.stream(request).finalMessage();
  };
  const first = await ask();
  if (first.stop_reason === "tool_use") {
    messages.push({ role: "assistant", content: first.content });
    const calls = first.content.filter((block) => block.type === "tool_use");
    const content = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: ran(call.input) }));
    messages.push({ role: "user", content });
  }
  const second = await ask();
  if (!second.usage.output_tokens) throw new Error("no usage");
  return second.content.filter((block) => block.type === "text").map((block) => block.text).join("");
});
