// A scripted client on the classic TypeScript SDK (@modelcontextprotocol/sdk); see steps.mjs for request and answer.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport, getDefaultEnvironment } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { request, run } from "./steps.mjs";

function transportFor({ type, url, headers, command, args, env, cwd }) {
  if (type === "stdio") {
    return new StdioClientTransport({ command, args, cwd, env: { ...getDefaultEnvironment(), ...env } });
  }
  const options = { requestInit: { headers: headers ?? {} } };
  if (type === "sse") return new SSEClientTransport(new URL(url), options);
  if (type === "http") return new StreamableHTTPClientTransport(new URL(url), options);
  throw new Error(`unknown transport ${type}`);
}

let protocol;
const transport = transportFor(request.transport);
transport.setProtocolVersion = ((original) => (version) => {
  protocol = version;
  original?.call(transport, version);
})(transport.setProtocolVersion);

await run(new Client({ name: "ts-sdk", version: "1.0.0" }), transport, {
  call: (client, params, options) => client.callTool(params, undefined, options),
  facts: () => ({ protocol: protocol ?? null, era: "handshake" }),
});
process.exit();
