// A server by Node's http on a free port of 127.0.0.1, which it prints. With the names of the files of
// a certificate and its key it speaks TLS.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';

function serve(req, res) {
	if (req.method === 'POST') {
		// Not req.pipe(res), which pauses the parser, which then refuses what still comes by TLS (HPE_PAUSED).
		const parts = [];
		req.on('data', (d) => parts.push(d));
		req.on('end', () => res.end(Buffer.concat(parts)));
		return;
	}
	switch (req.url) {
	case '/hello':
		res.end(`hello ${req.socket.remotePort}`);
		return;
	case '/stream':
		res.setHeader('Trailer', 'X-End');
		for (const i of [0, 1, 2]) res.write(`part ${i},`);
		res.addTrailers({ 'X-End': 'yes' });
		res.end();
		return;
	case '/close':
		res.setHeader('Connection', 'close');
		res.end('closed');
		return;
	case '/moved':
		res.writeHead(302, { Location: '/hello' });
		res.end();
		return;
	case '/cut':
		res.writeHead(200, { 'Content-Length': 1000 });
		res.write('half', () => req.socket.end());
		return;
	}
	res.writeHead(404);
	res.end('none');
}

const [certificate, key] = process.argv.slice(2);
const server = certificate ? https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, serve) : http.createServer(serve);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
