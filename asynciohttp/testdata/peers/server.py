# A server by http.server on a free port of 127.0.0.1, which it prints. With the names of the files of a
# certificate and its key it speaks TLS.
import http.server
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while n := int(self.rfile.readline(), 16):
            body += self.rfile.read(n)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        port = str(self.client_address[1]).encode()
        if self.path == "/hello":
            self.answer(200, b"hello " + port)
        elif self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-End")
            self.end_headers()
            for i in range(3):
                self.wfile.write(b"7\r\npart %d,\r\n" % i)
            self.wfile.write(b"0\r\nX-End: yes\r\n\r\n")
        elif self.path == "/close":
            self.answer(200, b"closed", Connection="close")
        elif self.path == "/moved":
            self.answer(302, b"", Location="/hello")
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
        else:
            self.answer(404, b"none")

    do_HEAD = do_GET

    def do_POST(self):
        self.answer(200, self.body())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
