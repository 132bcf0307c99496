//go:build unix

package interop

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	redigo "github.com/gomodule/redigo/redis"
	"golang.org/x/crypto/ssh"

	"github.com/goasyncio/asyncio"
)

func TestSSH(t *testing.T) {
	dir := directory(t)
	s := fileGate(t, dir)
	address, config := startSSH(t)
	runBattery(t, s, sshRows(address, config, dir))
}

func TestSSHTunnel(t *testing.T) {
	address, config := startSSH(t)
	socket := startRedis(t)
	runBattery(t, redisServer(t, socket), sshTunnelRows(address, config, socket))
}

// startSSH starts OpenSSH's server, with keys of its own. It lets the user of this process in.
func startSSH(t *testing.T) (address string, config *ssh.ClientConfig) {
	t.Helper()
	sshd := program(t, "sshd", "openssh-server", "/usr/sbin/sshd")
	me, err := user.Current()
	must(t, err)
	if me.Uid == "0" {
		must(t, os.MkdirAll("/run/sshd", 0o755)) // the server wants it
	}
	dir := directory(t)
	hostKey, hostFile := sshKey(t, dir, "host")
	userKey, _ := sshKey(t, dir, "user")
	authorized := filepath.Join(dir, "authorized")
	must(t, os.WriteFile(authorized, ssh.MarshalAuthorizedKey(userKey.PublicKey()), 0o600))
	options := []string{
		"HostKey=" + hostFile, "AuthorizedKeysFile=" + authorized, "StrictModes=no", "PermitRootLogin=yes", "UsePAM=no", "PidFile=none",
		"MaxSessions=100", "MaxStartups=100", "LogLevel=VERBOSE", "PrintMotd=no", "PrintLastLog=no",
		"SetEnv=SHLVL=1", // so bash takes itself for an inner shell, which does not read .bashrc
	}
	address = startAt(t, syscall.SIGTERM, func(port int) (*exec.Cmd, func() error) {
		args := []string{"-D", "-e", "-f", "/dev/null", "-p", strconv.Itoa(port), "-o", "ListenAddress=127.0.0.1"}
		for _, option := range options {
			args = append(args, "-o", option)
		}
		return exec.Command(sshd, args...), accepts("tcp", "127.0.0.1:"+strconv.Itoa(port))
	})
	return address, &ssh.ClientConfig{
		User:            me.Username,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(userKey)},
		HostKeyCallback: ssh.FixedHostKey(hostKey.PublicKey()),
	}
}

func sshKey(t *testing.T, dir, name string) (signer ssh.Signer, file string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	file = filepath.Join(dir, name)
	must(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	signer, err = ssh.NewSignerFromKey(key)
	must(t, err)
	return signer, file
}

func sshRows(address string, config *ssh.ClientConfig, dir string) []row {
	left := outcome{atOnce, runsOn, kept}
	return []row{
		{
			library: "x/crypto/ssh, commands", way: inThread, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return sshClient(ctx, new(net.Dialer).DialContext, address, config, dir)
			},
		},
		{
			library: "x/crypto/ssh, commands", way: onView, sim: "no", cancel: left, done: left, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return sshClient(ctx, asyncio.ThreadsafeDialer(ctx), address, config, dir)
			},
		},
	}
}

// dialSSH suspends the calling task until there is a client, on a connection that dial has made.
func dialSSH(ctx context.Context, dial dialFunc, address string, config *ssh.ClientConfig) (*ssh.Client, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (*ssh.Client, error) {
		c, err := dial(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		sc, channels, requests, err := ssh.NewClientConn(c, address, config)
		if err != nil {
			return nil, err
		}
		return ssh.NewClient(sc, channels, requests), nil
	})
}

func sshClient(ctx context.Context, dial dialFunc, address string, config *ssh.ClientConfig, dir string) (*client, error) {
	sc, err := dialSSH(ctx, dial, address, config)
	if err != nil {
		return nil, err
	}
	command := func(ctx context.Context, text string) (string, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return sshOutput(ctx, sc, text) })
	}
	return &client{
		ask: func(ctx context.Context, value string) (string, error) { return command(ctx, "echo "+value) },
		hold: func(ctx context.Context, value string) (string, error) {
			return command(ctx, fmt.Sprintf("cd %s; : >held/%[2]s; until [ -e go/%[2]s ]; do sleep 0.01; done; rm held/%[2]s; echo %[2]s", dir, value))
		},
		connection: func(ctx context.Context) (string, error) { return command(ctx, "echo $PPID") },
		close:      inThreadOnly(sc.Close),
		goroutine:  func(ctx context.Context, value string) (string, error) { return sshOutput(ctx, sc, "echo "+value) },
	}, nil
}

// sshOutput runs a command, until ctx is done.
func sshOutput(ctx context.Context, sc *ssh.Client, command string) (string, error) {
	session, err := sc.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	defer context.AfterFunc(ctx, func() { session.Close() })()
	output, err := session.Output(command)
	return strings.TrimSpace(string(output)), err
}

func sshTunnelRows(address string, config *ssh.ClientConfig, socket string) []row {
	return []row{
		{
			library: "x/crypto/ssh, tunnel", way: inThread + ", then " + asItIs, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{task: ignored}, closing: endsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				sc, err := dialSSH(ctx, new(net.Dialer).DialContext, address, config)
				if err != nil {
					return nil, err
				}
				dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
					tunnel, err := asyncio.ToThread(ctx, func(ctx context.Context) (net.Conn, error) { return sc.DialContext(ctx, "unix", socket) })
					if err != nil {
						return nil, err
					}
					return asyncio.NewConn(ctx, tunnel)
				}
				c := redigoClient(&redigo.Pool{MaxIdle: conns, DialContext: func(ctx context.Context) (redigo.Conn, error) {
					return redigo.DialContext(ctx, "", "", redigo.DialContextFunc(dial))
				}})
				closePool := c.close
				c.close = func(ctx context.Context) error {
					err := closePool(ctx)
					if err != nil {
						return err
					}
					return inThreadOnly(sc.Close)(ctx)
				}
				return c, nil
			},
		},
	}
}
