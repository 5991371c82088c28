// Tool loops with `openai` from npm, through each of its two APIs.
import OpenAI from "openai";
import { answers, PROMPT, ran, SCHEMA, DESCRIPTION } from "./loops.mjs";

const tool = { name: "run_command", description: DESCRIPTION, parameters: SCHEMA };

async function chat(client, model, how) {
  const tools = [{ type: "function", function: tool }];
  const messages = [{ role: "user", content: PROMPT }];
  const ask = async () => {
    if (how === "whole") return (await client.chat.completions.create({ model, messages, tools })).choices[0].message;
    const stream = client.chat.completions.stream({ model, messages, tools, stream_options: { include_usage: true } });
    const message = await stream.finalMessage();
    if (!(await stream.totalUsage()).completion_tokens) throw new Error("no usage");
    return message;
  };
  const first = await ask();
  messages.push(first);
  for (const call of first.tool_calls)
    messages.push({ role: "tool", tool_call_id: call.id, content: ran(JSON.parse(call.function.arguments)) });
  return (await ask()).content;
}

async function responses(client, model, how) {
  const tools = [{ type: "function", ...tool, strict: false }];
  const input = [{ role: "user", content: PROMPT }];
  const ask = async () => {
    const request = { model, input, tools, store: false };
    return how === "whole" ? client.responses.create(request) : client.responses.stream(request).finalResponse();
  };
  const first = await ask();
  input.push(...first.output);
  for (const call of first.output.filter((item) => item.type === "function_call"))
    input.push({ type: "function_call_output", call_id: call.call_id, output: ran(JSON.parse(call.arguments)) });
  const second = await ask();
  if (!second.usage.output_tokens) throw new Error("no usage");
  return second.output_text;
}

await answers(({ base, apiKey, api, model, how }) => {
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
  return { chat, responses }[api](client, model, how);
});
