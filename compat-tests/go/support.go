package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// scene is one run of a program: where the broker is, and what the program made there.
type scene struct {
	url, suffix       string
	m                 sync.Mutex
	queues, exchanges []string
}

func newScene() *scene {
	suffix := make([]byte, 6)
	if _, err := rand.Read(suffix); err != nil {
		panic(err)
	}
	return &scene{url: withDefault("AMQP_URL", "amqp://localhost"), suffix: hex.EncodeToString(suffix)}
}

func withDefault(name, value string) string {
	if given := os.Getenv(name); given != "" {
		return given
	}
	return value
}

// queue is a queue name of this run alone; the queue is deleted when the program ends.
func (s *scene) queue(name string) string {
	s.m.Lock()
	defer s.m.Unlock()
	s.queues = append(s.queues, fmt.Sprintf("compat.go.%s.%s", name, s.suffix))
	return s.queues[len(s.queues)-1]
}

// exchange is an exchange name of this run alone; the exchange is deleted when the program ends.
func (s *scene) exchange(name string) string {
	s.m.Lock()
	defer s.m.Unlock()
	s.exchanges = append(s.exchanges, fmt.Sprintf("compat.go.%s.%s", name, s.suffix))
	return s.exchanges[len(s.exchanges)-1]
}

func (s *scene) deleteWhatWasMade() {
	connection := s.connect()
	channel := open(connection)
	for _, queue := range s.queues {
		must(channel.QueueDelete(queue, false, false, false))
	}
	for _, exchange := range s.exchanges {
		check(channel.ExchangeDelete(exchange, false, false))
	}
	check(connection.Close())
}

func (s *scene) connect() *amqp.Connection { return must(amqp.Dial(s.url)) }

// changed is the broker's address after a change.
func (s *scene) changed(change func(*url.URL)) string {
	other := must(url.Parse(s.url))
	change(other)
	return other.String()
}

func open(connection *amqp.Connection) *amqp.Channel { return must(connection.Channel()) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func equal(actual, expected any, what string) {
	if !reflect.DeepEqual(actual, expected) {
		panic(fmt.Sprintf("%s\n  expected: %#v\n  actual:   %#v", what, expected, actual))
	}
}

// words are the values as text, one blank between two.
func words(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

// refused checks that the broker refused, with this reply code and with a text that contains this.
func refused(err error, code int, text string) {
	var amqpError *amqp.Error
	if !errors.As(err, &amqpError) || amqpError.Code != code || !strings.Contains(amqpError.Reason, text) {
		panic(fmt.Sprintf("expected %d %s, got: %v", code, text, err))
	}
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(channel.PublishWithContext(context.Background(), exchange, key, false, false, message))
}

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

func declare(channel *amqp.Channel, queue string, arguments amqp.Table) {
	declared := must(channel.QueueDeclare(queue, true, false, false, false, arguments))
	equal(declared.Name, queue, "the name in the reply")
}

func consume(channel *amqp.Channel, queue string) <-chan amqp.Delivery {
	return must(channel.Consume(queue, "", false, false, false, false, nil))
}

func next[T any](from <-chan T) T {
	select {
	case value, more := <-from:
		if !more {
			panic("the channel was closed")
		}
		return value
	case <-time.After(20 * time.Second):
		panic("waited 20 s in vain")
	}
}

func take(from <-chan amqp.Delivery, count int) []amqp.Delivery {
	var taken []amqp.Delivery
	for len(taken) < count {
		taken = append(taken, next(from))
	}
	return taken
}

func bodies(deliveries []amqp.Delivery) string {
	var all []string
	for _, delivery := range deliveries {
		all = append(all, string(delivery.Body))
	}
	return strings.Join(all, " ")
}

// drain takes everything out of a queue with basic.get.
func drain(channel *amqp.Channel, queue string) []amqp.Delivery {
	var all []amqp.Delivery
	for {
		delivery, ok, err := channel.Get(queue, true)
		check(err)
		if !ok {
			return all
		}
		all = append(all, delivery)
	}
}

// waitForReady waits until so many messages are ready in the queue. A broker may count before it has worked off what was
// published without a confirm, so one look is not enough.
func waitForReady(channel *amqp.Channel, queue string, count int) {
	waitUntil(fmt.Sprintf("%d ready messages in %s", count, queue), func() bool {
		return must(channel.QueueDeclarePassive(queue, true, false, false, false, nil)).Messages == count
	})
}

func waitUntil(what string, condition func() bool) {
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			panic("waited 20 s in vain: " + what)
		}
	}
}

// fromRunner runs a command that the runner gives in the environment; false if it gives none.
func fromRunner(variable string, arguments ...string) bool {
	words := strings.Fields(os.Getenv(variable))
	if len(words) == 0 {
		return false
	}
	output, err := exec.Command(words[0], append(words[1:], arguments...)...).CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("%s %v: %v\n%s", variable, arguments, err, output))
	}
	return true
}
