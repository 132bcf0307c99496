package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
)

// withServer runs body beside a server with all protocols, without TLS and with it.
func withServer(t *testing.T, body func(t *testing.T, ctx context.Context, url string) error) {
	t.Helper()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			ended := 0
			mux := http.NewServeMux()
			mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
			mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(b)
			})
			mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-End")
				for i := range 3 {
					fmt.Fprintf(w, "part %d,", i)
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Error(err)
					}
				}
				w.Header().Set("X-End", "yes")
			})
			mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
				if err := asyncio.Sleep(r.Context(), time.Minute); err != nil {
					ended++
				}
			})
			mux.HandleFunc("/ended", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, ended) })
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				srv, err := asynciohttptest.NewUnstartedServer(ctx, mux)
				if err != nil {
					return err
				}
				srv.Config.Protocols = new(http.Protocols)
				srv.Config.Protocols.SetHTTP1(true)
				srv.Config.Protocols.SetHTTP2(true)
				srv.Config.Protocols.SetUnencryptedHTTP2(true)
				if srv.Config.ErrorLog = discarded; scheme == "https" {
					srv.StartTLS()
				} else {
					srv.Start()
				}
				defer srv.Close()
				return body(t, ctx, srv.URL)
			}), asyncio.DebugMode(true))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// output runs a program while the loop goes on, and returns what it prints.
func output(ctx context.Context, program string, args ...string) (string, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = append(os.Environ(), "NODE_TLS_REJECT_UNAUTHORIZED=0", "NODE_NO_WARNINGS=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", program, err, &stderr)
		}
		return string(out), err
	})
}

// Clients that others have written, in scripts.
func TestServer_Clients(t *testing.T) {
	for _, c := range []struct{ name, program, script, want string }{
		{"CPython's http.client", "python3", "client.py", `get 11 200 hello
post 200 300000
chunks sent part 0, part 1, part 2,·
chunks chunked part 0,part 1,part 2,
head 5 0
none 404
same connection True
`},
		{"Node's fetch", "node", "fetch.mjs", `get 200 hello
post 300004
chunks sent 200 part 0, part 1, part 2,·
chunks 200 part 0,part 1,part 2,
head 5
none 404
many 50
abort AbortError
ended
`},
		{"Node's http2", "node", "http2.mjs", `get 200 hello
post 200 300000
stream part 0,part 1,part 2, yes
head 5 0
none 404
many 50
ended
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := program(t, c.program)
			withServer(t, func(t *testing.T, ctx context.Context, url string) error {
				got, err := output(ctx, path, "testdata/peers/"+c.script, url)
				if want := strings.ReplaceAll(c.want, "·", " "); got != want || err != nil {
					t.Errorf("%v\n%s\nwant\n%s", err, got, want)
				}
				return nil
			})
		})
	}
}

// curl and h2load, with each version of HTTP.
func TestServer_Versions(t *testing.T) {
	curl, h2load := program(t, "curl"), program(t, "h2load")
	withServer(t, func(t *testing.T, ctx context.Context, url string) error {
		upload := t.TempDir() + "/upload"
		if err := os.WriteFile(upload, pattern(1<<20), 0o600); err != nil {
			return err
		}
		http2 := "--http2" // by ALPN
		if strings.HasPrefix(url, "http:") {
			http2 = "--http2-prior-knowledge"
		}
		for option, version := range map[string]string{"--http1.1": "1.1", http2: "2"} {
			got, err := output(ctx, curl, "-sS", "-k", option, "-w", " %{http_version} %{num_connects}", url+"/hello")
			if want := "hello " + version + " 1"; got != want || err != nil {
				t.Errorf("curl %s: %q, %v; want %q", option, got, err, want)
			}
			got, err = output(ctx, curl, "-sS", "-k", option, "--data-binary", "@"+upload, url+"/echo")
			if got != string(pattern(1<<20)) || err != nil {
				t.Errorf("curl %s: %d bytes of an echo, %v", option, len(got), err)
			}
		}
		for _, args := range [][]string{{"-m", "10"}, {"--h1"}} {
			got, err := output(ctx, h2load, append(args, "-n", "1000", "-c", "10", url+"/hello")...)
			if !regexp.MustCompile(`1000 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 1000 2xx`).MatchString(got) || err != nil {
				t.Errorf("h2load %v: %v\n%s", args, err, got)
			}
		}
		return nil
	})
}

// The Transport against servers that others have written, in scripts.
func TestTransport_Servers(t *testing.T) {
	other := httptest.NewUnstartedServer(nil) // has a certificate
	other.StartTLS()
	defer other.Close()
	for _, peer := range []struct{ name, program, script string }{
		{"CPython's http.server", "python3", "server.py"},
		{"Node's http", "node", "server.mjs"},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(peer.name+" "+scheme, func(t *testing.T) {
				args := []string{"testdata/peers/" + peer.script}
				if scheme == "https" {
					args = append(args, pemFiles(t, other)...)
				}
				cmd := exec.Command(program(t, peer.program), args...)
				cmd.Stderr = os.Stderr
				stdout, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}()
				port, err := bufio.NewReader(stdout).ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				url := scheme + "://127.0.0.1:" + strings.TrimSpace(port)
				_, err = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
					transport := &asynciohttp.Transport{TLSClientConfig: other.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
					transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
					defer transport.CloseIdleConnections()
					return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
						return askPeer(t, ctx, &http.Client{Transport: transport}, url)
					})
				}), asyncio.DebugMode(true))
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// askPeer makes requests of every kind to one of the scripts' servers.
func askPeer(t *testing.T, ctx context.Context, client *http.Client, url string) error {
	ask := func(ctx context.Context, method, path string, body io.Reader) (*http.Response, string, error) {
		req, err := http.NewRequestWithContext(ctx, method, url+path, body)
		if err != nil {
			return nil, "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp, string(text), err
	}
	_, first, err := ask(ctx, "GET", "/hello", nil)
	if err != nil {
		return err
	}
	big := string(pattern(1 << 20))
	for _, c := range []struct {
		method, path string
		body         io.Reader
		want         string
	}{
		{"GET", "/hello", nil, first}, // on the same connection
		{"HEAD", "/hello", nil, ""},
		{"GET", "/none", nil, "none"},
		{"POST", "/", strings.NewReader(big), big},
		{"POST", "/", struct{ io.Reader }{strings.NewReader(big)}, big}, // in chunks
		{"GET", "/moved", nil, first},
		{"GET", "/hello", nil, first},
		{"GET", "/close", nil, "closed"},
	} {
		_, got, err := ask(ctx, c.method, c.path, c.body)
		if got != c.want || err != nil {
			t.Errorf("%s %s: %d bytes, %.40q, %v; want %.40q", c.method, c.path, len(got), got, err, c.want)
		}
	}
	if _, again, err := ask(ctx, "GET", "/hello", nil); err != nil || again == first || !strings.HasPrefix(again, "hello ") {
		t.Errorf("after the end of the connection: %q, %v; on the first one it was %q", again, err, first)
	}
	resp, text, err := ask(ctx, "GET", "/stream", nil)
	if err != nil || text != "part 0,part 1,part 2," || resp.Trailer.Get("X-End") != "yes" || resp.ContentLength != -1 {
		t.Errorf("chunks: %q, %v, response %+v", text, err, resp)
	}
	if _, text, err := ask(ctx, "GET", "/cut", nil); !errors.Is(err, io.ErrUnexpectedEOF) || text != "half" {
		t.Errorf("half of a response: %q, %v", text, err)
	}
	many := make([]asyncio.Coroutine[asyncio.None], 50)
	for i := range many {
		many[i] = asyncio.Do(func(ctx context.Context) error {
			want := strings.Repeat(fmt.Sprint(i), 1000)
			if _, got, err := ask(ctx, "POST", "/", strings.NewReader(want)); got != want || err != nil {
				return fmt.Errorf("one of many: %d bytes, %w; want %d", len(got), err, len(want))
			}
			return nil
		})
	}
	_, err = asyncio.Gather(ctx, many...)
	return err
}

// pemFiles writes the certificate of s, and its key, to files.
func pemFiles(t *testing.T, s *httptest.Server) []string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: s.Certificate().Raw},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(dir+"/"+name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{dir + "/cert.pem", dir + "/key.pem"}
}
