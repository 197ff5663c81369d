package callout

import "sync"

// buffers are what a step of a login writes into and needs no longer when the step ends.
type buffers struct {
	jwt   []byte // a request or a response
	other []byte // the request's claims, or the sealed response
}

// maxKept bounds the buffers that are kept, in bytes each: few requests and no responses are larger.
const maxKept = 64 << 10

var pool = sync.Pool{New: func() any { return new(buffers) }}

// free gives the buffers to the next step, of this login or of another.
func (b *buffers) free() {
	if cap(b.jwt) <= maxKept && cap(b.other) <= maxKept {
		pool.Put(b)
	}
}
