// What the TypeScript clients share: read the request from argv, run its steps, print one JSON document.
//
// request  {transport, era?, steps: [[NAME, ...ARGUMENTS], ...]}
// answer   {client, server, protocol, capabilities, instructions, steps: [{ok, progress?} | {error}], notifications}

export const request = JSON.parse(process.argv[2]);

const LISTS = {
  list_tools: ["listTools", "tools"],
  list_resources: ["listResources", "resources"],
  list_templates: ["listResourceTemplates", "resourceTemplates"],
  list_prompts: ["listPrompts", "prompts"],
};

async function everyPage(client, method, key) {
  const found = [];
  let cursor;
  do {
    const page = await client[method](cursor === undefined ? undefined : { cursor });
    found.push(...page[key]);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return found;
}

async function perform(client, call, [name, ...rest]) {
  if (name in LISTS) return { ok: await everyPage(client, ...LISTS[name]) };
  if (name === "read") return { ok: await client.readResource({ uri: rest[0] }) };
  if (name === "get_prompt") return { ok: await client.getPrompt({ name: rest[0], arguments: rest[1] ?? {} }) };
  if (name === "complete") return { ok: await client.complete({ ref: rest[0], argument: rest[1] }) };
  if (name === "ping") return { ok: await client.ping() };
  if (name !== "call") throw new Error(`unknown step ${name}`);
  const progress = [];
  const onprogress = (update) => progress.push(update);
  const ok = await call(client, { name: rest[0], arguments: rest[1] ?? {} }, { onprogress });
  return { ok, progress };
}

function plain(error) {
  return { type: error.constructor.name, code: error.code ?? null, message: error.message, data: error.data ?? null };
}

export async function run(client, transport, { call, facts }) {
  const notifications = [];
  client.fallbackNotificationHandler = async (notification) => {
    notifications.push(notification);
  };
  const steps = [];
  try {
    await client.connect(transport);
    for (const step of request.steps) {
      try {
        steps.push(await perform(client, call, step));
      } catch (error) {
        steps.push({ error: plain(error) });
      }
    }
    await print({
      server: client.getServerVersion() ?? null,
      capabilities: client.getServerCapabilities() ?? null,
      instructions: client.getInstructions() ?? null,
      ...facts(client, transport),
      steps,
      notifications,
    });
  } catch (error) {
    await print({ error: plain(error), steps, notifications });
    process.exitCode = 1;
  } finally {
    await client.close();
  }
}

function print(answer) {
  return new Promise((done) => process.stdout.write(JSON.stringify(answer), done));
}
