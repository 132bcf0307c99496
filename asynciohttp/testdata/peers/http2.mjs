// A client of the server whose URL is the argument, by package http2, on one connection.
import http2 from 'node:http2';

const session = http2.connect(process.argv[2], { rejectUnauthorized: false });
session.on('error', (e) => { console.log('session', e.message); process.exit(1); });

function ask(headers, body) {
	return new Promise((resolve, reject) => {
		const stream = session.request(headers);
		let text = '', got = {}, trailers = {};
		stream.setEncoding('utf8');
		stream.on('response', (h) => { got = h; });
		stream.on('trailers', (h) => { trailers = h; });
		stream.on('data', (d) => { text += d; });
		stream.on('end', () => resolve({ status: got[':status'], text, trailers, got }));
		stream.on('error', reject);
		stream.end(body);
	});
}

let r = await ask({ ':path': '/hello' });
console.log('get', r.status, r.text);
r = await ask({ ':path': '/echo', ':method': 'POST' }, 'x'.repeat(300000)); // more than a window
console.log('post', r.status, r.text.length);
r = await ask({ ':path': '/stream' });
console.log('stream', r.text, r.trailers['x-end']);
r = await ask({ ':path': '/hello', ':method': 'HEAD' });
console.log('head', r.got['content-length'], r.text.length);
r = await ask({ ':path': '/none' });
console.log('none', r.status);
const all = await Promise.all(Array.from({ length: 50 }, (_, i) => ask({ ':path': '/echo', ':method': 'PUT' }, `${i}`)));
console.log('many', all.filter((r, i) => r.text === `${i}`).length);
const gone = session.request({ ':path': '/wait' });
gone.on('error', () => {});
setTimeout(() => gone.close(http2.constants.NGHTTP2_CANCEL), 50);
await new Promise((resolve) => gone.on('close', resolve));
while ((await ask({ ':path': '/ended' })).text !== '1') await new Promise((r) => setTimeout(r, 10));
console.log('ended');
await new Promise((resolve, reject) => session.ping((err) => (err ? reject(err) : resolve())));
session.close();
