import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.ShutdownSignalException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What the programs here share: the broker's address, a time limit, names that nobody else uses, clean-up. */
final class Support {
    static final long PATIENCE_MS = 30_000;
    private static final long TIME_LIMIT_MS = 60_000;

    private static final String SUFFIX = UUID.randomUUID().toString();
    private static final Deque<String> QUEUES = new ArrayDeque<>();
    private static final Deque<String> EXCHANGES = new ArrayDeque<>();

    private Support() {
    }

    interface Program {
        void run() throws Exception;
    }

    interface Doing {
        void on(Channel channel) throws Exception;
    }

    /** Runs a program within the time limit, and deletes what it made. */
    static void run(Program program) {
        Thread limit = new Thread(() -> {
            try {
                Thread.sleep(TIME_LIMIT_MS);
                System.err.println("still running after " + TIME_LIMIT_MS + " ms");
                Runtime.getRuntime().halt(1);
            } catch (InterruptedException ended) {
                Thread.currentThread().interrupt();
            }
        });
        limit.setDaemon(true);
        limit.start();
        int status = 0;
        try {
            program.run();
        } catch (Throwable cause) {
            cause.printStackTrace();
            status = 1;
        }
        try (Connection connection = factory().newConnection(); Channel channel = connection.createChannel()) {
            for (String queue : QUEUES) {
                channel.queueDelete(queue);
            }
            for (String exchange : EXCHANGES) {
                channel.exchangeDelete(exchange);
            }
        } catch (Exception cause) {
            cause.printStackTrace();
            status = 1;
        }
        Runtime.getRuntime().halt(status);
    }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(Objects.requireNonNullElse(System.getenv("AMQP_URL"), "amqp://localhost"));
        // The default is the size of the largest body here, and that is one octet too little.
        factory.setMaxInboundMessageBodySize(128 << 20);
        return factory;
    }

    static String uniqueQueue(String name) {
        QUEUES.push("compat.java." + name + "." + SUFFIX);
        return QUEUES.peek();
    }

    static String uniqueExchange(String name) {
        EXCHANGES.push("compat.java." + name + "." + SUFFIX);
        return EXCHANGES.peek();
    }

    static void equal(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + "\n  expected: " + expected + "\n  actual:   " + actual);
        }
    }

    static byte[] octets(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(Delivery delivery) {
        return new String(delivery.getBody(), StandardCharsets.UTF_8);
    }

    static List<String> texts(List<Delivery> deliveries) {
        List<String> texts = new ArrayList<>();
        deliveries.forEach(delivery -> texts.add(text(delivery)));
        return texts;
    }

    static void publish(Channel channel, String queue, String... bodies) throws Exception {
        for (String body : bodies) {
            channel.basicPublish("", queue, null, octets(body));
        }
    }

    static AMQP.BasicProperties.Builder properties() {
        return new AMQP.BasicProperties.Builder();
    }

    static String declare(Channel channel, String name, Map<String, Object> arguments) throws Exception {
        return channel.queueDeclare(uniqueQueue(name), false, false, false, arguments).getQueue();
    }

    static <T> T next(BlockingQueue<T> queue, String what) throws InterruptedException {
        T next = queue.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
        if (next == null) {
            throw new AssertionError("waited in vain for " + what);
        }
        return next;
    }

    static void waitUntil(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("waited in vain: " + what);
            }
            Thread.sleep(20);
        }
    }

    static void waitForReady(Channel channel, String queue, long count) throws Exception {
        waitUntil(queue + " holds " + count, () -> channel.messageCount(queue) == count);
    }

    /** The broker must close a channel of its own for this, with this code and a text that contains this. */
    static void refused(Connection connection, int code, String text, Doing doing) throws Exception {
        Channel channel = connection.createChannel();
        ShutdownSignalException closed;
        try {
            doing.on(channel);
            // What needs no answer is refused before the next answer comes.
            channel.basicQos(0);
            throw new AssertionError("expected " + code + " " + text + ", but the broker agreed");
        } catch (AlreadyClosedException cause) {
            closed = cause;
        } catch (java.io.IOException cause) {
            closed = (ShutdownSignalException) cause.getCause();
        }
        AMQP.Channel.Close close = (AMQP.Channel.Close) closed.getReason();
        equal(close.getReplyCode(), code, close.getReplyText());
        equal(close.getReplyText().contains(text), true, close.getReplyText());
        equal(connection.isOpen(), true, "the connection is open");
    }

    /** A consumer of a queue: the messages it was given, in order. */
    static final class Inbox {
        final BlockingQueue<Delivery> came = new LinkedBlockingQueue<>();
        final BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        final String tag;

        Inbox(Channel channel, String queue, boolean autoAck, Map<String, Object> arguments) throws Exception {
            tag = channel.basicConsume(queue, autoAck, "", false, false, arguments, (consumer, delivery) -> came.add(delivery),
                cancelled::add, (consumer, signal) -> {});
        }

        Inbox(Channel channel, String queue, boolean autoAck) throws Exception {
            this(channel, queue, autoAck, Map.of());
        }

        List<Delivery> take(int count) throws InterruptedException {
            List<Delivery> taken = new ArrayList<>();
            while (taken.size() < count) {
                taken.add(next(came, "a message"));
            }
            return taken;
        }

        void nothingMore() throws InterruptedException {
            Delivery more = came.poll(200, TimeUnit.MILLISECONDS);
            equal(more == null ? null : text(more), null, "a further message");
        }
    }

    /** A command of rabbitmqctl; false if it is not the runner's broker. */
    static boolean ctl(String... arguments) throws Exception {
        return command("BROKER_CTL", arguments);
    }

    /** Restarts the broker; false if it is not the runner's. */
    static boolean restartBroker() throws Exception {
        return command("BROKER_RESTART");
    }

    private static boolean command(String variable, String... arguments) throws Exception {
        String command = System.getenv(variable);
        if (command == null) {
            System.out.println("not our broker: " + variable + " is not set");
            return false;
        }
        List<String> line = new ArrayList<>(List.of(command));
        line.addAll(List.of(arguments));
        equal(new ProcessBuilder(line).inheritIO().start().waitFor(), 0, String.join(" ", line));
        return true;
    }
}
