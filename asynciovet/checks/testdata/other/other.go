// Package other belongs to another module than the packages that use it.
package other

import (
	"math/rand"
	"net"
	"sync"
)

type Client struct{ goroutines sync.WaitGroup }

func (c *Client) Connect(address string) error {
	_, err := net.Dial("tcp", address)
	return err
}

// Close waits for goroutines that end at once.
func (c *Client) Close() { c.goroutines.Wait() }

func Backoff() int { return rand.Intn(10) }
