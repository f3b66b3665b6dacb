package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// connection covers login, what is agreed upon, every field of amqp.Config, many channels, closing.
func connection(s *scene) {
	login(s)
	tuning(s)
	manyChannels(s)
	connectionException(s)
}

func login(s *scene) {
	_, err := amqp.Dial(s.changed(func(other *url.URL) { other.User = url.UserPassword("guest", "not the password") }))
	refused(err, 403, "username or password not allowed")
	_, err = amqp.Dial(s.changed(func(other *url.URL) { other.Path = "/no-such-vhost" }))
	refused(err, 530, "NOT_ALLOWED - vhost no-such-vhost not found")

	parsed := must(amqp.ParseURI(s.url))
	for _, sasl := range []amqp.Authentication{parsed.PlainAuth(), parsed.AMQPlainAuth()} {
		connection := must(amqp.DialConfig(s.url, amqp.Config{SASL: []amqp.Authentication{sasl}}))
		alive(s, connection)
		capabilities := connection.Properties["capabilities"].(amqp.Table)
		for _, capability := range []string{"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
			"connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to"} {
			equal(capabilities[capability], true, capability)
		}
		equal([]int{connection.Major, connection.Minor}, []int{0, 9}, "the protocol's version")
		check(connection.Close())
		equal(connection.IsClosed(), true, "closed")
	}
}

func alive(s *scene, connection *amqp.Connection) {
	channel := open(connection)
	queue := s.queue("alive")
	declare(channel, queue, nil)
	body := make([]byte, 1_000_000)
	publish(channel, "", queue, amqp.Publishing{Body: body})
	equal(len(next(consume(channel, queue)).Body), len(body), "a large body")
	check(channel.Close())
}

func tuning(s *scene) {
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("compat")
	dialed := false
	connection := must(amqp.DialConfig(s.url, amqp.Config{
		ChannelMax: 10,
		FrameSize:  8192,
		Heartbeat:  time.Second,
		Properties: properties,
		Locale:     "en_US",
		Dial: func(network, address string) (net.Conn, error) {
			dialed = true
			return amqp.DefaultDial(5*time.Second)(network, address)
		},
	}))
	agreed := connection.Config
	equal(words(dialed, agreed.ChannelMax, agreed.FrameSize, agreed.Heartbeat), "true 10 8192 1s", "agreed")
	time.Sleep(3500 * time.Millisecond) // Either side would have given up by now without the other's heartbeats.
	alive(s, connection)
	for range 10 {
		open(connection)
	}
	_, err := connection.Channel()
	equal(err, amqp.ErrChannelMax, "an eleventh channel")
	check(connection.Close())

	// The same by the address.
	address := s.changed(func(other *url.URL) { other.RawQuery = "heartbeat=3&channel_max=7&connection_timeout=5000" })
	connection = must(amqp.Dial(address))
	equal(words(connection.Config.ChannelMax, connection.Config.Heartbeat), "7 3s", "agreed by the address")
	check(connection.UpdateSecret("guest", "nothing to renew"))
	check(connection.Close())

	// Without a limit and without heartbeats, as far as the broker agrees.
	connection = must(amqp.DialConfig(s.url, amqp.Config{FrameSize: amqp.FrameSizeUnlimited, ChannelMax: 65535}))
	equal(connection.Config.FrameSize > 0, true, "the broker has a limit for frames")
	alive(s, connection)
	check(connection.CloseDeadline(time.Now().Add(5 * time.Second)))
}

func manyChannels(s *scene) {
	connection := s.connect()
	queue := s.queue("many-channels")
	declare(open(connection), queue, nil)
	for range 3 { // The numbers of closed channels are used again.
		var channels []*amqp.Channel
		for range 200 {
			channels = append(channels, open(connection))
		}
		for _, channel := range channels {
			publish(channel, "", queue, text("x"))
			check(channel.Close())
		}
	}
	equal(len(drain(open(connection), queue)), 600, "a message of each channel")
	check(connection.Close())
}

// An error that is not one channel's closes the connection: here a consumer tag that is taken.
func connectionException(s *scene) {
	connection := s.connect()
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	channel := open(connection)
	queue := s.queue("connection-exception")
	declare(channel, queue, nil)
	must(channel.Consume(queue, "taken", false, false, false, false, nil))
	_, err := channel.Consume(queue, "taken", false, false, false, false, nil)
	equal(err != nil, true, "the tag is taken")
	refused(next(closed), 530, "NOT_ALLOWED - attempt to reuse consumer tag 'taken'")
}

// overTLS covers TLS with and without a certificate of the client.
func overTLS(s *scene) {
	address, directory := os.Getenv("AMQPS_URL"), os.Getenv("AMQP_TLS_DIR")
	if address == "" {
		fmt.Println("this broker has no TLS listener to test")
		return
	}
	authority := x509.NewCertPool()
	equal(authority.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(directory, "ca.pem")))), true, "the authority")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		connection := must(amqp.DialTLS(address, &tls.Config{RootCAs: authority, MinVersion: version, MaxVersion: version}))
		equal(connection.ConnectionState().Version, version, "the version")
		alive(s, connection)
		check(connection.Close())
	}
	own := func(name string) *tls.Config {
		certificate := must(tls.LoadX509KeyPair(filepath.Join(directory, name+".pem"), filepath.Join(directory, name+".key")))
		return &tls.Config{RootCAs: authority, Certificates: []tls.Certificate{certificate}}
	}
	connection := must(amqp.DialTLS_ExternalAuth(address, own("guest")))
	alive(s, connection)
	check(connection.Close())

	// All of it in the address.
	query := url.Values{"auth_mechanism": {"external"}}
	for option, file := range map[string]string{"cacertfile": "ca.pem", "certfile": "guest.pem", "keyfile": "guest.key"} {
		query.Set(option, filepath.Join(directory, file))
	}
	connection = must(amqp.Dial(address + "?" + query.Encode()))
	alive(s, connection)
	check(connection.Close())

	for _, configuration := range []*tls.Config{own("stranger"), {RootCAs: authority}, {}} {
		if _, err := amqp.DialTLS_ExternalAuth(address, configuration); err == nil {
			panic("logged in without a certificate that the broker trusts, or to a broker that the client does not trust")
		}
	}
}
