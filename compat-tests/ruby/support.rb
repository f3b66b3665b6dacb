# frozen_string_literal: true

# What the programs here share: the broker's address, a time limit, names that nobody else uses, clean-up.

require "bunny"
require "securerandom"
require "timeout"

URL = ENV.fetch("AMQP_URL", "amqp://localhost")
TIME_LIMIT_SECONDS = 60
PATIENCE_SECONDS = 20
SUFFIX = SecureRandom.hex(6)
MADE = { queues: [], exchanges: [] }.freeze

# A queue name of this run alone; the queue is deleted when the program ends.
def unique_queue(name)
  MADE[:queues].push("compat.ruby.#{name}.#{SUFFIX}").last
end

# An exchange name of this run alone; the exchange is deleted when the program ends.
def unique_exchange(name)
  MADE[:exchanges].push("compat.ruby.#{name}.#{SUFFIX}").last
end

def connect(**options)
  Bunny.new(URL, { log_level: Logger::FATAL }.merge(options)).start
end

# Runs a program within the time limit; whatever it raises becomes exit status 1.
def run
  Thread.report_on_exception = true
  Timeout.timeout(TIME_LIMIT_SECONDS) { yield }
rescue Timeout::Error => e
  abort "still running after #{TIME_LIMIT_SECONDS} s, or: #{e.full_message}"
ensure
  delete_what_was_made
end

def delete_what_was_made
  connection = connect
  channel = connection.create_channel
  MADE[:queues].each { |queue| channel.queue_delete(queue) }
  MADE[:exchanges].each { |exchange| channel.exchange_delete(exchange) }
  connection.close
end

def equal(actual, expected, what = "mismatch")
  return if actual == expected

  raise "#{what}\n  expected: #{expected.inspect[0, 500]}\n  actual:   #{actual.inspect[0, 500]}"
end

# Checks that the broker closes the channel that the block gets, with this code and a text that contains this.
def refused(connection, code, text)
  channel = connection.create_channel
  noticed = Queue.new
  channel.on_error { |_, close| noticed << [close.reply_code, close.reply_text] }
  begin
    yield channel
    reply_code, reply_text = Timeout.timeout(PATIENCE_SECONDS) { noticed.pop }
  rescue Bunny::ChannelLevelException => e
    reply_code, reply_text = e.channel_close.reply_code, e.channel_close.reply_text
  end
  equal(reply_code, code, reply_text)
  equal(reply_text.include?(text), true, reply_text)
end

# The messages that a consumer was given, in order.
class Inbox
  Message = Struct.new(:info, :properties, :body)

  attr_reader :consumer

  def initialize(channel, queue, manual_ack: true, **options)
    @messages = Queue.new
    @consumer = channel.queue(queue, passive: true).subscribe(manual_ack: manual_ack, **options) do |info, properties, body|
      @messages << Message.new(info, properties, body)
    end
  end

  def size = @messages.size

  def next
    Timeout.timeout(PATIENCE_SECONDS) { @messages.pop }
  end

  def take(count) = Array.new(count) { self.next }
end

def bodies(messages) = messages.map(&:body)

# Takes everything out of a queue with basic.get.
def drain(channel, queue)
  messages = []
  loop do
    info, properties, body = channel.basic_get(queue, manual_ack: false)
    return messages if info.nil?

    messages << Inbox::Message.new(info, properties, body)
  end
end

def declared(channel, queue, arguments = {})
  channel.queue_declare(queue, durable: true, arguments: arguments)
  queue
end

def publish(channel, exchange, key, body, **options)
  channel.basic_publish(body, exchange, key, options)
end

# Waits until so many messages are ready in the queue. A broker may count before it has worked off what was published
# without a confirm, so one look is not enough.
def wait_for_ready(channel, queue, count)
  wait_until("#{count} ready messages in #{queue}") { channel.queue_declare(queue, passive: true).message_count == count }
end

def wait_until(what)
  deadline = Time.now + PATIENCE_SECONDS
  until yield
    raise "waited in vain: #{what}" if Time.now > deadline

    sleep 0.02
  end
end

# Runs a command that the runner gives in the environment; false if it gives none.
def from_runner(variable, *arguments)
  command = ENV.fetch(variable, "").split
  return false if command.empty?

  equal(system(*command, *arguments, in: "/dev/null", out: "/dev/null"), true, "#{variable} #{arguments}")
  true
end
