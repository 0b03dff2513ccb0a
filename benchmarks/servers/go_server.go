// Echo and broadcast on sockjs-go; `make bench-peers` builds it.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/igm/sockjs-go/v3/sockjs"
)

var (
	mutex    sync.RWMutex
	everyone = map[sockjs.Session]struct{}{}
)

func echo(session sockjs.Session) {
	for {
		message, err := session.Recv()
		if err != nil {
			return
		}
		session.Send(message)
	}
}

func broadcast(session sockjs.Session) {
	mutex.Lock()
	everyone[session] = struct{}{}
	mutex.Unlock()
	defer func() {
		mutex.Lock()
		delete(everyone, session)
		mutex.Unlock()
	}()
	for {
		message, err := session.Recv()
		if err != nil {
			return
		}
		mutex.RLock()
		for other := range everyone {
			other.Send(message)
		}
		mutex.RUnlock()
	}
}

func main() {
	port := flag.Int("port", 0, "")
	heartbeat := flag.Float64("heartbeat", 25, "seconds")
	flag.Parse()
	options := sockjs.DefaultOptions
	options.HeartbeatDelay = time.Duration(*heartbeat * float64(time.Second))
	http.Handle("/echo/", sockjs.NewHandler("/echo", options, echo))
	http.Handle("/broadcast/", sockjs.NewHandler("/broadcast", options, broadcast))
	panic(http.ListenAndServe(fmt.Sprintf("127.0.0.1:%d", *port), nil))
}
