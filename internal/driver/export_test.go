package driver

// PollerExists says whether connections can be descriptors in a poller.
const PollerExists = pollerExists

// LingerLimit is how long a closed driver waits for its endpoints to send the bytes they accepted.
const LingerLimit = lingerLimit

// Parked reports whether Wait is about to block or blocks.
func (d *Real) Parked() bool { return d.parked.Load() != awake }

// Watched is the number of descriptors in the poller.
func (d *Real) Watched() int {
	if d.poller == nil {
		return 0
	}
	return d.poller.count
}
