package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio"
)

// Zones: parts of the network within which links differ from those between them, as in several data
// centres.

// A zoning is which hosts are in which zones, and the links that follow from that.
type zoning struct {
	of              map[*system]string
	within, between Link
	pairs           map[[2]string]*Link // of one zone to another
}

// SetZones divides the hosts into zones. Two hosts of one zone have the link within, two of
// different zones the link between, in both directions, unless [Network.SetLinkBetween] has set
// one for the two. Hosts in no zone, usually main's, keep the link of [Network.SetLink]. SetZones
// replaces the zones that were there; with none there are no zones. A zone has a name and at least
// one host, and a host is in one zone.
//
//	network.SetZones(map[string][]string{"eu": {"a", "b"}, "us": {"c"}}, lan, ocean)
func (n *Network) SetZones(zones map[string][]string, within, between Link) {
	const caller = "SetZones"
	z := &zoning{of: make(map[*system]string), within: within.check(caller), between: between.check(caller), pairs: make(map[[2]string]*Link)}
	for _, zone := range slices.Sorted(maps.Keys(zones)) {
		if zone == "" || len(zones[zone]) == 0 {
			panic(fmt.Errorf("%w: zone %q of %s (in sim.Network.SetZones)", asyncio.ErrInvalidArgument, zone, counted(len(zones[zone]), "host")))
		}
		for _, name := range zones[zone] {
			s := n.n.must(name, caller)
			if other, ok := z.of[s]; ok {
				panic(fmt.Errorf("%w: host %q is in the zones %s and %s (in sim.Network.SetZones)", asyncio.ErrInvalidArgument, name, other, zone))
			}
			z.of[s] = zone
		}
	}
	n.n.zones = z
	if len(zones) == 0 {
		n.n.zones = nil
	}
	n.n.doubt()
}

// SetLinkBetweenZones sets the link from the hosts of one zone to those of another, in one
// direction. Both zones may be the same.
func (n *Network) SetLinkBetweenZones(from, to string, l Link) {
	const caller = "SetLinkBetweenZones"
	n.n.hostsOf(from, caller)
	n.n.hostsOf(to, caller)
	l = l.check(caller)
	n.n.zones.pairs[[2]string{from, to}] = &l
	n.n.doubt()
}

// PartitionZones is [Network.Partition] by zones: hosts of zones in different groups cannot reach
// each other. [Network.Heal] ends it.
func (n *Network) PartitionZones(groups ...[]string) {
	hosts := make([][]string, len(groups))
	for i, zones := range groups {
		for _, zone := range zones {
			hosts[i] = append(hosts[i], n.n.hostsOf(zone, "PartitionZones")...)
		}
	}
	n.n.say("the network: partition of the zones %v", groups)
	n.Partition(hosts...)
}

// IsolateZone cuts the hosts of a zone off from all others, also those in no zone, in both
// directions, like [Network.Cut] for each pair. Among themselves they go on.
func (n *Network) IsolateZone(zone string) {
	inside := n.n.hostsOf(zone, "IsolateZone")
	for _, from := range n.n.systems {
		for _, to := range n.n.systems {
			if slices.Contains(inside, from.name) != slices.Contains(inside, to.name) {
				w := n.n.wire(from, to)
				w.change(func() { w.cut = true })
			}
		}
	}
	n.n.say("the network: zone %s is isolated", zone)
	n.n.doubt()
}

// hostsOf returns the names of the hosts of a zone, in the order in which they were made.
func (n *network) hostsOf(zone, caller string) []string {
	var hosts, known []string
	for _, s := range n.systems {
		if n.zones == nil {
			break
		}
		switch z, ok := n.zones.of[s]; {
		case !ok:
		case z == zone:
			hosts = append(hosts, s.name)
		case !slices.Contains(known, z):
			known = append(known, z)
		}
	}
	if hosts == nil {
		panic(fmt.Errorf("%w: there is no zone %q; the zones are %s (in sim.Network.%s)", asyncio.ErrInvalidArgument, zone, strings.Join(known, ", "), caller))
	}
	return hosts
}

// linkOf returns the link of two hosts that the zones say, nil if they say nothing.
func (z *zoning) linkOf(from, to *system) *Link {
	a, one := z.of[from]
	b, two := z.of[to]
	switch {
	case !one || !two:
		return nil
	case z.pairs[[2]string{a, b}] != nil:
		return z.pairs[[2]string{a, b}]
	case a == b:
		return &z.within
	}
	return &z.between
}
