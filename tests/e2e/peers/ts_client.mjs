// A scripted client on the new TypeScript client (@modelcontextprotocol/client); see steps.mjs for request and answer.
// `era` is "handshake" (the default), "modern" (this revision or nothing) or "auto".

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport, getDefaultEnvironment } from "@modelcontextprotocol/client/stdio";
import { request, run } from "./steps.mjs";

const MODES = { handshake: "legacy", auto: "auto", modern: { pin: "2026-07-28" } };

function transportFor({ type, url, headers, command, args, env, cwd }) {
  if (type === "stdio") {
    return new StdioClientTransport({ command, args, cwd, env: { ...getDefaultEnvironment(), ...env } });
  }
  const options = { requestInit: { headers: headers ?? {} } };
  if (type === "sse") return new SSEClientTransport(new URL(url), options);
  if (type === "http") return new StreamableHTTPClientTransport(new URL(url), options);
  throw new Error(`unknown transport ${type}`);
}

const mode = MODES[request.era ?? "handshake"];
const client = new Client({ name: "ts-client", version: "1.0.0" }, { versionNegotiation: { mode } });

await run(client, transportFor(request.transport), {
  call: (connected, params, options) => connected.callTool(params, options),
  facts: (connected) => ({
    protocol: connected.getNegotiatedProtocolVersion() ?? null,
    era: connected.getProtocolEra() === "modern" ? "modern" : "handshake",
  }),
});
process.exit();
