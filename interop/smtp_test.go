//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio"
)

func TestSMTP(t *testing.T) {
	dir := directory(t)
	s := fileGate(t, dir)
	runBattery(t, s, smtpRows(startSMTP(t, dir), dir))
}

// debianPython returns Debian's Python if it has a module, which is in a package of Debian's.
func debianPython(t *testing.T, module string) string {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import "+module).Run() != nil {
		missing(t, python+" with "+module, "python3-"+module)
	}
	return python
}

// startSMTP starts aiosmtpd, which puts messages into dir.
func startSMTP(t *testing.T, dir string) (address string) {
	t.Helper()
	python := debianPython(t, "aiosmtpd")
	must(t, os.Mkdir(filepath.Join(dir, "mail"), 0o777))
	return startAt(t, syscall.SIGTERM, func(port int) (*exec.Cmd, func() error) {
		return exec.Command(python, "testdata/smtp_server.py", strconv.Itoa(port), dir), accepts("tcp", "127.0.0.1:"+strconv.Itoa(port))
	})
}

func smtpRows(address, dir string) []row {
	return []row{
		{
			library: "net/smtp", way: asItIs, sim: "yes",
			cancel: outcome{atOnce, takenBack, oneEach}, done: outcome{task: ignored}, closing: endsThem,
			open: func(context.Context, int) (*client, error) {
				var used connections
				// mail sends a message and returns the text of what has arrived.
				mail := func(ctx context.Context, to, value string) (string, error) {
					c, err := asyncio.Dial(ctx, "tcp", address)
					if err != nil {
						return "", err
					}
					defer used.use(c)()
					if err := sendMail(c, "me@localhost", to, value, value); err != nil {
						if asyncio.CurrentTask(ctx).Cancelling() > 0 {
							// net/smtp takes a cancel for a server without EHLO, and goes on
							err = asyncio.ErrCancelled
						}
						return "", err
					}
					message, err := asyncio.ReadFile(context.WithoutCancel(ctx), filepath.Join(dir, "mail", value))
					_, body, _ := strings.Cut(string(message), "\r\n\r\n")
					return strings.TrimSpace(body), err
				}
				return &client{
					ask:  func(ctx context.Context, value string) (string, error) { return mail(ctx, "ask@localhost", value) },
					hold: func(ctx context.Context, value string) (string, error) { return mail(ctx, "hold@localhost", value) },
					connection: func(ctx context.Context) (string, error) {
						_, err := mail(ctx, "ask@localhost", "connection")
						return used.last, err
					},
					close: used.close,
				}, nil
			},
		},
	}
}

// sendMail sends a message in the calling task.
func sendMail(conn net.Conn, from, to, subject, body string) error {
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.Mail(from), c.Rcpt(to)); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Subject: %s\r\n\r\n%s\r\n", subject, body)
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}
