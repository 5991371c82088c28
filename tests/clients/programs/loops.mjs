// What the programs beside this one share: BASE KEY API MODEL… are their arguments, and one JSON object a loop is what they print.

export const PROMPT = "Run the command and tell me what it prints.";
export const DESCRIPTION = "Runs a command";
export const SCHEMA = { type: "object", properties: { command: { type: "string" } }, required: ["command"] };

// What `printf WORD-%d 42` prints.  That number stands in no request before.
export const ran = ({ command }) => command.replace(/^printf (\S+)-%d 42$/, `$1-${6 * 7}`);

export async function answers(loop) {
  const [base, apiKey, api, ...models] = process.argv.slice(2);
  for (const model of models)
    for (const how of ["whole", "stream"]) {
      const said = { model, how };
      try {
        said.text = await loop({ base, apiKey, api, model, how });
      } catch (error) {
        said.error = error.constructor.name;
        said.status = error.status ?? error.statusCode ?? null;
        said.message = String(error.message ?? error);
      }
      console.log(JSON.stringify(said));
    }
}
