# frozen_string_literal: true

# Connections: bunny's options, login, tuning, heartbeats, many channels, closing, TLS.

require_relative "support"

def alive(connection)
  channel = connection.create_channel
  queue = declared(channel, unique_queue("alive"))
  body = Random.bytes(1_000_000)
  publish(channel, "", queue, body)
  equal(Inbox.new(channel, queue, manual_ack: false).next.body == body, true, "a large body")
  channel.close
end

def login
  begin
    connect(password: "not the password", pass: "not the password")
    raise "logged in with a wrong password"
  rescue Bunny::AuthenticationFailureError
    nil
  end
  begin
    connect(vhost: "no-such-vhost", recovery_attempts: 0)
    raise "opened a vhost that does not exist"
  rescue Bunny::NotAllowedError, Bunny::Exception => e
    equal(e.message.include?("vhost no-such-vhost not found"), true, e.message)
  end
  connection = connect(connection_name: "compat", locale: "en_US", auth_mechanism: "PLAIN")
  %w[publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify connection.blocked].each do |capability|
    equal(connection.server_properties["capabilities"][capability], true, capability)
  end
  equal(connection.queue_exists?(unique_queue("missing")), false)
  equal(connection.exchange_exists?("amq.direct"), true)
  connection.update_secret("guest", "nothing to renew")
  alive(connection)
  connection.close
  equal(connection.closed?, true)
end

def options
  connection = connect(
    heartbeat: 1, channel_max: 10, frame_max: 8192, continuation_timeout: 10_000, connection_timeout: 5, read_timeout: 10,
    write_timeout: 10, properties: Bunny::Session::DEFAULT_CLIENT_PROPERTIES.merge(product: "compat")
  )
  equal([connection.heartbeat, connection.channel_max, connection.frame_max], [1, 10, 8192])
  sleep 3.5 # Either side would have given up by now without the other's heartbeats.
  alive(connection)
  connection.close
  # The first address does not answer.
  address = AMQ::URI.parse(URL)
  port = address[:port] || 5672
  several = Bunny.new(addresses: ["127.0.0.1:1", "#{address[:host]}:#{port}"], hosts_shuffle_strategy: ->(all) { all }, log_level: Logger::FATAL)
  several.start
  alive(several)
  several.close
  connection = connect(heartbeat: 0)
  alive(connection)
  connection.close
end

def many_channels
  connection = connect
  queue = declared(connection.create_channel, unique_queue("many-channels"))
  2.times do # The numbers of closed channels are used again.
    channels = Array.new(100) { connection.create_channel }
    channels.each do |channel|
      publish(channel, "", queue, "x")
      channel.close
    end
  end
  channel = connection.create_channel
  wait_for_ready(channel, queue, 200)
  connection.close # With a channel still open.
end

def tls
  address, directory = ENV["AMQPS_URL"], ENV["AMQP_TLS_DIR"]
  return puts("this broker has no TLS listener to test") if address.nil?

  common = { tls: true, tls_ca_certificates: ["#{directory}/ca.pem"], verify_peer: true, log_level: Logger::FATAL }
  own = ->(name) { { tls_cert: "#{directory}/#{name}.pem", tls_key: "#{directory}/#{name}.key" } }
  [{}, own.call("guest"), own.call("guest").merge(auth_mechanism: "EXTERNAL")].each do |more|
    connection = Bunny.new(address, common.merge(more)).start
    equal(connection.tls?, true)
    alive(connection)
    connection.close
  end
  begin
    Bunny.new(address, common.merge(own.call("stranger"), recovery_attempts: 0, automatically_recover: false)).start
    raise ArgumentError, "the broker trusts a stranger"
  rescue Bunny::Exception, OpenSSL::SSL::SSLError, SystemCallError, IOError
    nil
  end
end

run do
  login
  options
  many_channels
  tls
end
