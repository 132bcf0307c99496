package sim

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

type network struct{}
type station struct{}

func newNetwork(now func() time.Duration, at func(time.Duration, func()), stream func(string) *rand.Rand, chance func(string, float64) bool) *network {
	return &network{}
}
func (n *network) attach(name string, addr netip.Addr, tell func(to driver.Notifier, read, write bool)) *station {
	return &station{}
}
func (s *station) powerOff() {}
func (s *station) kill()     {}
func (s *station) Dial(network, address string, local net.Addr) (driver.Connecting, error) {
	return nil, nil
}
func (s *station) Listen(network, address string) (driver.Listener, error) { return nil, nil }
func (s *station) ListenPacket(network, address string) (driver.PacketEndpoint, error) {
	return nil, nil
}

type Disk struct{}

func newDisk(chance func(string, float64) bool, rng *rand.Rand) *Disk { return &Disk{} }
func (d *Disk) mount()                                                {}
func (d *Disk) unmount()                                              {}
func (d *Disk) powerFail()                                            {}
func (n *network) Heal()                                              {}
