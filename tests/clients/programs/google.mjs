// Tool loops with `@google/genai`.
import { GoogleGenAI } from "@google/genai";
import { answers, PROMPT, ran, SCHEMA, DESCRIPTION } from "./loops.mjs";

const functionDeclarations = [{ name: "run_command", description: DESCRIPTION, parametersJsonSchema: SCHEMA }];

await answers(async ({ base, apiKey, model, how }) => {
  const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: base } });
  const contents = [{ role: "user", parts: [{ text: PROMPT }] }];
  const ask = async () => {
    const request = { model, contents, config: { tools: [{ functionDeclarations }] } };
    const parts = [];
    let finish, usage;
    const read = (answer) => {
      parts.push(...(answer.candidates?.[0]?.content?.parts ?? []));
      finish = answer.candidates?.[0]?.finishReason ?? finish;
      usage = answer.usageMetadata ?? usage;
    };
    if (how === "whole") read(await client.models.generateContent(request));
    else for await (const chunk of await client.models.generateContentStream(request)) read(chunk);
    if (!finish || !usage) throw new Error("no finish reason or no usage");
    return parts;
  };
  const first = await ask();
  contents.push({ role: "model", parts: first });
  const calls = first.filter((part) => part.functionCall).map((part) => part.functionCall);
  const parts = calls.map(({ id, name, args }) => ({ functionResponse: { id, name, response: { output: ran(args) } } }));
  contents.push({ role: "user", parts });
  return (await ask()).filter((part) => part.text && !part.thought).map((part) => part.text).join("");
});
