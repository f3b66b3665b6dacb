<?php
// What the programs here share: the broker's address, a time limit, names that nobody else uses, clean-up.

declare(strict_types=1);

require_once '/usr/share/php/PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPConnectionConfig;
use PhpAmqpLib\Connection\AMQPConnectionFactory;
use PhpAmqpLib\Exception\AMQPProtocolException;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const TIME_LIMIT_SECONDS = 60;
const PATIENCE_SECONDS = 20;

/** One run of a program: what it made with the broker. */
final class Scene
{
    private static ?string $suffix = null;
    private static array $queues = [];
    private static array $exchanges = [];

    private static function unique(string $name): string
    {
        self::$suffix ??= bin2hex(random_bytes(6));
        return "compat.php.$name." . self::$suffix;
    }

    /** A queue name of this run alone; the queue is deleted when the program ends. */
    public static function queue(string $name): string
    {
        return self::$queues[] = self::unique($name);
    }

    /** An exchange name of this run alone; the exchange is deleted when the program ends. */
    public static function exchange(string $name): string
    {
        return self::$exchanges[] = self::unique($name);
    }

    public static function deleteWhatWasMade(): void
    {
        $connection = connect();
        $channel = $connection->channel();
        foreach (self::$queues as $queue) {
            $channel->queue_delete($queue);
        }
        foreach (self::$exchanges as $exchange) {
            $channel->exchange_delete($exchange);
        }
        $connection->close();
    }
}

/** How to connect to the address of the broker, or to that of its TLS listener. */
function address(string $variable = 'AMQP_URL'): AMQPConnectionConfig
{
    $parts = parse_url(getenv($variable) ?: 'amqp://localhost');
    $config = new AMQPConnectionConfig();
    $config->setHost($parts['host']);
    $config->setPort($parts['port'] ?? 5672);
    $config->setUser(urldecode($parts['user'] ?? 'guest'));
    $config->setPassword(urldecode($parts['pass'] ?? 'guest'));
    $vhost = urldecode(substr($parts['path'] ?? '', 1));
    $config->setVhost($vhost === '' ? '/' : $vhost);
    $config->setReadTimeout(PATIENCE_SECONDS);
    $config->setWriteTimeout(PATIENCE_SECONDS);
    return $config;
}

function connect(?callable $change = null)
{
    $config = address();
    if ($change !== null) {
        $change($config);
    }
    return AMQPConnectionFactory::create($config);
}

/** Runs a program within the time limit; whatever it throws becomes exit status 1. */
function run(callable $main): void
{
    pcntl_async_signals(true);
    pcntl_signal(SIGALRM, function () {
        fwrite(STDERR, 'still running after ' . TIME_LIMIT_SECONDS . " s\n");
        exit(1);
    });
    pcntl_alarm(TIME_LIMIT_SECONDS);
    $status = 0;
    try {
        $main();
    } catch (Throwable $error) {
        fwrite(STDERR, "$error\n");
        $status = 1;
    }
    Scene::deleteWhatWasMade();
    exit($status);
}

function equal($actual, $expected, string $what = 'mismatch'): void
{
    if ($actual !== $expected) {
        throw new Exception("$what\n  expected: " . var_export($expected, true) . "\n  actual:   " . var_export($actual, true));
    }
}

function contains(string $text, string $part): void
{
    equal(strpos($text, $part) !== false, true, "'$part' in '$text'");
}

/** Checks that the broker closes the channel, with this code and a text that contains this. */
function refused($connection, int $code, string $text, callable $action): void
{
    $channel = $connection->channel();
    try {
        $action($channel);
    } catch (AMQPProtocolException $error) {
        equal($error->getCode(), $code, $error->getMessage());
        contains($error->getMessage(), $text);
        return;
    }
    throw new Exception("expected $code $text, but the broker agreed");
}

function declared(AMQPChannel $channel, string $queue, array $arguments = []): string
{
    [$name] = $channel->queue_declare($queue, false, true, false, false, false, new AMQPTable($arguments));
    equal($name, $queue);
    return $queue;
}

function publish(AMQPChannel $channel, string $exchange, string $key, string $body, array $properties = []): void
{
    $channel->basic_publish(new AMQPMessage($body, $properties), $exchange, $key);
}

/** The messages that a consumer was given, in order. */
final class Inbox
{
    public array $messages = [];
    public string $tag;
    private AMQPChannel $channel;

    public function __construct(AMQPChannel $channel, string $queue, bool $noAck = false, string $tag = '', bool $exclusive = false, array $arguments = [])
    {
        $this->channel = $channel;
        $callback = function (AMQPMessage $message) {
            $this->messages[] = $message;
        };
        $this->tag = $channel->basic_consume($queue, $tag, false, $noAck, $exclusive, false, $callback, null, new AMQPTable($arguments));
    }

    public function next(): AMQPMessage
    {
        while ($this->messages === []) {
            $this->channel->wait(null, false, PATIENCE_SECONDS);
        }
        return array_shift($this->messages);
    }

    public function take(int $count): array
    {
        $taken = [];
        while (count($taken) < $count) {
            $taken[] = $this->next();
        }
        return $taken;
    }
}

function bodies(array $messages): array
{
    return array_map(fn ($message) => $message->getBody(), $messages);
}

/** Takes everything out of a queue with basic.get. */
function drain(AMQPChannel $channel, string $queue): array
{
    $messages = [];
    while (($message = $channel->basic_get($queue, true)) !== null) {
        $messages[] = $message;
    }
    return $messages;
}

/**
 * Waits until so many messages are ready in the queue. A broker may count before it has worked off what was published
 * without a confirm, so one look is not enough.
 */
function waitForReady(AMQPChannel $channel, string $queue, int $count): void
{
    waitUntil("$count ready messages in $queue", fn () => $channel->queue_declare($queue, true)[1] === $count);
}

function waitUntil(string $what, callable $condition): void
{
    $deadline = microtime(true) + PATIENCE_SECONDS;
    while (!$condition()) {
        equal(microtime(true) < $deadline, true, "waited in vain: $what");
        usleep(20_000);
    }
}

/** Lets the client read what the broker says without being asked. */
function listen($channel, float $seconds = 0.1): void
{
    try {
        $channel->wait(null, false, $seconds);
    } catch (AMQPTimeoutException $nothing) {
    }
}

/** Runs a command that the runner gives in the environment; false if it gives none. */
function fromRunner(string $variable, string ...$arguments): bool
{
    $command = getenv($variable);
    if ($command === false || $command === '') {
        return false;
    }
    exec($command . ' ' . implode(' ', array_map('escapeshellarg', $arguments)) . ' 2>&1 </dev/null', $output, $status);
    equal($status, 0, implode("\n", $output));
    return true;
}
