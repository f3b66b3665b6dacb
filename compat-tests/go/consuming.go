package main

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// consuming covers prefetch, acks in all forms, cancelling from both sides, recover, and what is refused.
func consuming(s *scene) {
	connection := s.connect()
	filled := func(name string, count int) (*amqp.Channel, string) {
		channel, queue := open(connection), s.queue(name)
		declare(channel, queue, nil)
		for number := 1; number <= count; number++ {
			publish(channel, "", queue, text(fmt.Sprint(number)))
		}
		waitForReady(channel, queue, count)
		return channel, queue
	}

	channel, queue := filled("prefetch", 10)
	check(channel.Qos(2, 0, false))
	first := consume(channel, queue)
	check(channel.Qos(3, 0, false))
	second := consume(channel, queue) // The first one keeps its limit.
	early, others := take(first, 2), take(second, 3)
	waitForReady(channel, queue, 5)
	equal([]string{bodies(early), bodies(others)}, []string{"1 2", "3 4 5"}, "prefetch for each consumer")
	check(early[1].Ack(false))
	equal(string(next(first).Body), "6", "room for one more")
	check(others[2].Ack(true)) // All up to this one, of both consumers.
	next(first)
	take(second, 3)
	waitForReady(channel, queue, 0)
	check(channel.Close())

	channel, queue = filled("settling", 6)
	other := open(connection)
	inbox := consume(other, queue)
	messages := take(inbox, 6)
	check(messages[1].Ack(false))
	check(messages[0].Reject(false))
	check(messages[3].Reject(true))
	again := next(inbox)
	equal(words(string(again.Body), again.Redelivered, again.DeliveryTag), "4 true 7", "rejected")
	check(messages[4].Nack(true, true)) // 3 and 5
	equal(bodies(take(inbox, 2)), "3 5", "put back")
	check(other.Recover(true))
	equal(bodies(take(inbox, 4)), "3 4 5 6", "recovered")
	check(other.Close())
	waitForReady(channel, queue, 4) // What a channel leaves behind goes to its old place.
	equal(bodies(drain(channel, queue)), "3 4 5 6", "in order")

	// Cancelled by a context, by the client, and by the broker when the queue goes.
	until, cancel := context.WithCancel(context.Background())
	inbox = must(channel.ConsumeWithContext(until, queue, "until", false, false, false, false, nil))
	cancel()
	closed(inbox)
	inbox = must(channel.Consume(queue, "chosen", true, false, false, false, nil))
	publish(channel, "", queue, text("automatically"))
	equal(next(inbox).ConsumerTag, "chosen", "the tag")
	check(channel.Cancel("chosen", false))
	closed(inbox)
	cancelled := channel.NotifyCancel(make(chan string, 1))
	inbox = must(channel.Consume(queue, "orphan", false, false, false, false, amqp.Table{"x-priority": int32(5)}))
	must(open(connection).QueueDelete(queue, false, false, false))
	equal(next(cancelled), "orphan", "told by the broker")
	closed(inbox)

	channel, queue = filled("refusals", 1)
	must(channel.Consume(queue, "", false, true, false, false, nil))
	_, err := open(connection).Consume(queue, "", false, false, false, false, nil)
	refused(err, 403, "in exclusive use")
	_, _, err = open(connection).Get(s.queue("missing"), false)
	refused(err, 404, "NOT_FOUND - no queue")
	unknown := open(connection)
	reason := unknown.NotifyClose(make(chan *amqp.Error, 1))
	check(unknown.Ack(17, false))
	refused(next(reason), 406, "PRECONDITION_FAILED - unknown delivery tag 17")

	// Priorities of consumers: the important one first.
	channel, queue = filled("consumer-priority", 0)
	low := must(channel.Consume(queue, "", true, false, false, false, amqp.Table{"x-priority": int32(1)}))
	high := must(channel.Consume(queue, "", true, false, false, false, amqp.Table{"x-priority": int32(10)}))
	for range 5 {
		publish(channel, "", queue, text("x"))
	}
	take(high, 5)
	equal(len(low), 0, "nothing for the less important one")
	check(connection.Close())
}

func closed(inbox <-chan amqp.Delivery) {
	select {
	case _, more := <-inbox:
		equal(more, false, "the consumer has ended")
	case <-time.After(20 * time.Second):
		panic("the consumer does not end")
	}
}

// rpc covers requests whose answers come by direct reply-to.
func rpc(s *scene) {
	connection := s.connect()
	jobs := s.queue("jobs")
	server := open(connection)
	declare(server, jobs, nil)
	requests := consume(server, jobs)
	go func() {
		for request := range requests {
			answer := amqp.Publishing{CorrelationId: request.CorrelationId, Body: append([]byte("re: "), request.Body...)}
			publish(server, "", request.ReplyTo, answer)
			check(request.Ack(false))
		}
	}()
	client := open(connection)
	answers := must(client.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil))
	for number := range 100 {
		request := amqp.Publishing{CorrelationId: fmt.Sprint(number), ReplyTo: "amq.rabbitmq.reply-to", Body: []byte(fmt.Sprint(number))}
		publish(client, "", jobs, request)
		answer := next(answers)
		equal(words(answer.CorrelationId, string(answer.Body)), words(number, "re:", number), "the answer")
	}
	refused(func() error {
		other := open(connection)
		reason := other.NotifyClose(make(chan *amqp.Error, 1))
		publish(other, "", jobs, amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to"})
		return next(reason)
	}(), 406, "fast reply consumer does not exist")
	check(connection.Close())
}

// blocked: a broker that is short of memory holds back who publishes, and says so before and after.
func blocked(s *scene) {
	connection, watching := s.connect(), open(s.connect())
	notices := connection.NotifyBlocked(make(chan amqp.Blocking, 10))
	channel := open(connection)
	queue := s.queue("blocked")
	declare(channel, queue, nil)
	if !fromRunner("BROKER_CTL", "set_vm_memory_high_watermark", "absolute", "1000000") {
		fmt.Println("this broker cannot be made short of memory from here")
		return
	}
	func() {
		defer fromRunner("BROKER_CTL", "set_vm_memory_high_watermark", "0.6")
		publish(channel, "", queue, text("held back"))
		equal(next(notices), amqp.Blocking{Active: true, Reason: "low on memory"}, "the notice")
		time.Sleep(200 * time.Millisecond)
		equal(len(drain(watching, queue)), 0, "nothing is taken meanwhile, and who only consumes is served")
	}()
	equal(next(notices).Active, false, "the end of it")
	waitForReady(watching, queue, 1)
	check(connection.Close())
}

// recovery: the client's own reconnection, with its topology and its consumers, after a restart of the broker.
func recovery(s *scene) {
	connection := must(amqp.DialConfig(s.url, amqp.Config{Recovery: &amqp.Recovery{
		ReconnectionConfig: &amqp.ReconnectionConfig{MaxRetryCount: 100, RetryInterval: 500 * time.Millisecond},
	}}))
	states := make(chan *amqp.StateChanged, 100)
	connection.NotifyStateChange(states)
	channel := open(connection)
	exchange, durable := s.exchange("recovery"), s.queue("recovery")
	check(channel.ExchangeDeclare(exchange, "topic", true, false, false, false, nil))
	declare(channel, durable, nil)
	check(channel.QueueBind(durable, "kept.#", exchange, false, nil))
	transient := must(channel.QueueDeclare(s.queue("transient"), false, true, true, false, nil)).Name
	check(channel.QueueBind(transient, "lost.#", exchange, false, nil))
	check(channel.Confirm(false))
	check(channel.Qos(10, 0, false))
	background := context.Background()
	send := func(key, body string) {
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(background, exchange, key, false, false,
			amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
		check(err)
		equal(must(confirmation.WaitContext(background)), true, "confirmed")
	}
	inbox, other := consume(channel, durable), consume(channel, transient)
	send("kept.1", "before")
	equal(string(next(inbox).Body), "before", "it is not acknowledged, so it comes again")
	if !fromRunner("BROKER_RESTART") {
		fmt.Println("this broker cannot be restarted from here")
		return
	}
	for open := false; !open; {
		open = next(states).To == amqp.StateOpen
	}
	again := next(inbox)
	equal(words(string(again.Body), again.Redelivered), "before true", "what was confirmed outlives the restart")
	check(again.Ack(false))
	send("kept.2", "after")
	equal(string(next(inbox).Body), "after", "the binding of the durable queue")
	send("lost.1", "after")
	equal(string(next(other).Body), "after", "the transient queue and its binding are made again")
	check(connection.Close())
}
