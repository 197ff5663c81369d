package devstack

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// ReservePorts returns n different free TCP ports of 127.0.0.1 that the system gives to nobody who asks for any port, for
// about a minute; who names one may listen on it at once. Each port is left with one connection in TIME_WAIT, which
// keeps it out of the system's choice but does not hinder a listener with SO_REUSEADDR, as Go and nats-server set it.
func ReservePorts(n int) (ports []int, err error) {
	for range n {
		listener, listenErr := net.Listen("tcp", "127.0.0.1:0")
		if listenErr != nil {
			return nil, fmt.Errorf("reserving a port: %w", listenErr)
		}
		// Held until all are chosen, so that they differ.
		defer func() { err = errors.Join(err, listener.Close()) }()
		if err := leaveTimeWait(listener); err != nil {
			return nil, fmt.Errorf("reserving a port: %w", err)
		}
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// leaveTimeWait makes a connection to the listener and closes it from the listener's side, the side that then keeps TIME_WAIT.
func leaveTimeWait(listener net.Listener) error {
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		return err
	}
	if err := accepted.Close(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, client) // until the close has arrived
	return err
}
