// A client of the server whose URL is the argument, by fetch.
const url = process.argv[2];

async function text(path, options) {
	const r = await fetch(url + path, options);
	return [r.status, await r.text()].join(' ');
}

console.log('get', await text('/hello'));
console.log('post', (await text('/echo', { method: 'POST', body: 'x'.repeat(300000) })).length);
const parts = new ReadableStream({
	start(c) {
		for (const i of [0, 1, 2]) c.enqueue(new TextEncoder().encode(`part ${i}, `));
		c.close();
	},
});
console.log('chunks sent', await text('/echo', { method: 'POST', body: parts, duplex: 'half' }));
console.log('chunks', await text('/stream'));
const head = await fetch(url + '/hello', { method: 'HEAD' });
console.log('head', head.headers.get('content-length'));
console.log('none', (await fetch(url + '/none')).status);
console.log('many', (await Promise.all(Array.from({ length: 50 }, (_, i) => text('/echo', { method: 'PUT', body: `${i}` })))).filter((t, i) => t === `200 ${i}`).length);
const gone = new AbortController();
setTimeout(() => gone.abort(), 50);
console.log('abort', await fetch(url + '/wait', { signal: gone.signal }).catch((e) => e.name));
while ((await text('/ended')) !== '200 1') await new Promise((r) => setTimeout(r, 10));
console.log('ended');
