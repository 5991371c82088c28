// Tool loops with `ai` and the three of its providers whose dialects the gateway has.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { answers, PROMPT, ran, DESCRIPTION } from "./loops.mjs";

const run_command = tool({
  description: DESCRIPTION,
  inputSchema: z.object({ command: z.string() }),
  execute: async (input) => ran(input),
});
const providers = {
  chat: (base, apiKey) => createOpenAI({ baseURL: `${base}/v1`, apiKey }).chat,
  responses: (base, apiKey) => createOpenAI({ baseURL: `${base}/v1`, apiKey }).responses,
  messages: (base, apiKey) => createAnthropic({ baseURL: `${base}/v1`, apiKey }),
  generate: (base, apiKey) => createGoogleGenerativeAI({ baseURL: `${base}/v1beta`, apiKey }),
};

await answers(async ({ base, apiKey, api, model, how }) => {
  const request = {
    model: providers[api](base, apiKey)(model),
    maxRetries: 0,
    prompt: PROMPT,
    tools: { run_command },
    stopWhen: stepCountIs(3),
  };
  if (how === "whole") return (await generateText(request)).text;
  let failure;
  const result = streamText({ ...request, onError: ({ error }) => (failure = error) });
  await result.consumeStream();
  if (failure) throw failure;
  // A program that does not look at this takes an answer that broke off for a whole one: Google's provider tells nobody of errors.
  if ((await result.finishReason) !== "stop") throw new Error(`ended with ${await result.finishReason}`);
  return result.text;
});
