package gallery

import "context"

// A Bug is a mistake of real systems, in a small program of their kind. Main is the function for
// [sim.Explore]: several hosts, and the conditions that must hold. Without the mistake it is the
// corrected program, which shares everything else with it.
type Bug struct {
	Name   string // and that of its file
	What   string
	System string // that had it
	Source string // an address
	Main   func(mistake bool) func(ctx context.Context) error

	// Cause is a regular expression for the fault that leads to the line with the mistake: that
	// line has a comment that begins with BUG, and with the name, if the file has several.
	Cause string
}

// What leads to most mistakes: a program is stopped, or something is late.
const (
	stops  = `(lost power|was killed|was shut down) for`
	delays = `(paused for|late (by|for)|arrived for|passed between .* for|is lost|are reset| took )`
)

// Bugs are the bugs of real systems, by what they are about: disks, messages that are sent twice,
// locks and leases, agreement, connections, copies, clocks.
var Bugs = []Bug{
	{"rename", "a rename whose directory is not synced", "LevelDB",
		"https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai", renameUnsynced, `server lost power for`},
	{"replace", "a file that is renamed before it is synced", "desktops on ext4",
		"https://bugs.launchpad.net/ubuntu/+source/linux/+bug/317781", replaceUnsynced, `server lost power`},
	{"fsync", "a sync that failed, and is repeated", "PostgreSQL",
		"https://wiki.postgresql.org/wiki/Fsync_Errors", fsyncAgain, `the sync of document\d.new fails`},
	{"checksum", "a journal without checksums", "ZooKeeper, LevelDB",
		"https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai", journalUnchecked, `server lost power`},
	{"outbox", "a database and a broker, written one after the other", "many services",
		"https://martin.kleppmann.com/2015/05/27/logs-for-data-infrastructure.html", dualWrite, `shop ` + stops},
	{"retry", "a request that is repeated under no name", "jetcd",
		"https://jepsen.io/analyses/jetcd-0.8.2", retryUnnamed, stops + `|` + delays},
	{"dedupe", "duplicates that are recognised for a fixed time", "Amazon SQS",
		"https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html", dedupeByTime, stops + `|` + delays},
	{"fencing", "a write under a lease that has ended", "HBase",
		"https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html", leaseUnfenced, stops + `|` + delays},
	{"lease", "a lease that is measured with the wall clock", "etcd",
		"https://github.com/etcd-io/etcd/issues/6700", leaseByWallClock, `the wall clock of reader was set`},
	{"acceptor", "an acceptor of Paxos that forgets its promise", "systems without stable storage",
		"https://lamport.azurewebsites.net/pubs/paxos-simple.pdf", promiseForgotten, `acceptor\d ` + stops},
	{"twophase", "a participant that aborts by itself after it has voted yes", "transaction managers (heuristic decisions)",
		"https://docs.oracle.com/javaee/7/api/javax/transaction/HeuristicMixedException.html", abortAlone, stops + `|` + delays},
	{"raftvote", "a vote that is not on the disk", "raft",
		"https://raft.github.io/raft.pdf", raftVote, `node\d ` + stops},
	{"raftread", "a read from a leader that does not ask the others", "etcd, Consul",
		"https://aphyr.com/posts/316-jepsen-etcd-and-consul", raftRead, stops + `|` + delays},
	{"raftsplit", "a majority of the nodes that answer", "Elasticsearch",
		"https://github.com/elastic/elasticsearch/issues/10935", raftSplit, stops + `|` + delays},
	{"pool", "a connection that is reused after a cancelled request", "redis-py",
		"https://github.com/redis/redis-py/issues/2624", connectionReused, delays},
	{"halfclose", "a proxy that closes both directions when one has ended", "Docker",
		"https://github.com/moby/moby/issues/27539", halfClosed, delays},
	{"halfopen", "a connection to a machine that has lost its power", "many clients",
		"https://blog.cloudflare.com/when-tcp-sockets-refuse-to-die/", deadPeer, `publisher lost power for`},
	{"deadlock", "two services that ask each other, and each holds a lock", "actors of Orleans",
		"https://learn.microsoft.com/en-us/dotnet/orleans/grains/request-scheduling", lockedAcross, delays},
	{"watch", "a change between a list and a watch", "controllers of Kubernetes",
		"https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes", watchFromNow, stops + `|` + delays},
	{"cache", "a cache that is filled with what was read before a change", "memcached at Facebook",
		"https://www.usenix.org/conference/nsdi13/technical-sessions/presentation/nishtala", staleFill, delays},
	{"replica", "a read that is behind the reader's own write", "MongoDB",
		"https://jepsen.io/analyses/mongodb-3-6-4", replicaBehind, stops + `|` + delays},
	{"leapsecond", "a duration that is measured with the wall clock", "Cloudflare's resolver",
		"https://blog.cloudflare.com/how-and-why-the-leap-second-affected-cloudflare-dns/", clockSetBack, `the wall clock of resolver was set by -`},
	{"timestamps", "the last write, by the writers' clocks", "Cassandra",
		"https://aphyr.com/posts/299-the-trouble-with-timestamps", lastWriteWins, `clock of client was`},
	{"sorcerer", "a block that is sent for each acknowledgment", "TFTP",
		"https://www.rfc-editor.org/rfc/rfc1123#section-4.2.3.1", acknowledgedTwice, delays},
}
