// The rows about HTTP, for Node. The lines they print are those of internal/peer.
import http from "node:http";
import http2 from "node:http2";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const AT_ONCE = 100; // requests that a client makes at the same time

// Serves bodies of size bytes.
export function serve(kind, size) {
  const body = Buffer.alloc(size, "x");
  const head = { "Content-Type": "text/plain", "Content-Length": size };
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const handler = (request, response) => {
    if (request.url === "/collect") {
      collect();
    }
    response.writeHead(200, head);
    response.end(body);
  };
  const server = kind === "http2" ? http2.createServer(handler) : http.createServer({ keepAliveTimeout: 60_000 }, handler);
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => console.log(server.address().port));
}

// Makes n requests, with n / 10 before that are not measured.
export async function fetch(port, size, n) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const get = () =>
    new Promise((resolve, reject) => {
      const request = http.get({ host: "127.0.0.1", port, agent }, (response) => {
        let got = 0;
        response.on("data", (part) => (got += part.length));
        response.on("error", reject);
        response.on("end", () => (got === size ? resolve() : reject(new Error(`${got} bytes`))));
      });
      request.on("error", reject);
    });
  const all = (n) =>
    Promise.all(
      Array.from({ length: AT_ONCE }, async (_, one) => {
        for (let i = one; i < n; i += AT_ONCE) {
          await get();
        }
      }),
    );
  await all(Math.max(AT_ONCE, Math.floor(n / 10)));
  const before = process.cpuUsage();
  await all(n);
  const used = process.cpuUsage(before);
  console.log(["http1", n, (used.user + used.system) * 1000, 0].join(","));
  agent.destroy();
}
