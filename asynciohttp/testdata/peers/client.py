# A client of the server whose URL is the argument, by http.client, on one connection.
import http.client
import ssl
import sys
import urllib.parse

url = urllib.parse.urlsplit(sys.argv[1])
if url.scheme == "https":
    c = http.client.HTTPSConnection(url.netloc, context=ssl._create_unverified_context())
else:
    c = http.client.HTTPConnection(url.netloc)


def ask(method, path, body=None, **more):
    c.request(method, path, body, **more)
    r = c.getresponse()
    return r, r.read()


r, body = ask("GET", "/hello")
socket = c.sock
print("get", r.version, r.status, body.decode())
r, body = ask("POST", "/echo", b"x" * 300000)
print("post", r.status, len(body))
r, body = ask("POST", "/echo", (b"part %d, " % i for i in range(3)), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
print("chunks sent", body.decode())
r, body = ask("GET", "/stream")
print("chunks", r.getheader("Transfer-Encoding"), body.decode())
r, body = ask("HEAD", "/hello")
print("head", r.getheader("Content-Length"), len(body))
r, body = ask("GET", "/none")
print("none", r.status)
print("same connection", c.sock is socket)
