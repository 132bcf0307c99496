package sim

import "math/rand/v2"

type Disk struct{}

func newDisk(chance func(string, float64) bool, rng *rand.Rand) *Disk { return &Disk{} }
func (d *Disk) mount()                                                {}
func (d *Disk) unmount()                                              {}
func (d *Disk) powerFail()                                            {}
