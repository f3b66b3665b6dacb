import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Address;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultSaslConfig;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.impl.nio.NioParams;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.nio.file.Files;
import java.nio.file.Path;

/** Connections: what is agreed on, what the broker says of itself, heartbeats, wrong passwords and vhosts, NIO, TLS, channels. */
final class Connecting {
    public static void main(String[] args) {
        Support.run(() -> {
            options();
            refusals();
            heartbeats();
            channels();
            tls();
        });
    }

    private static void options() throws Exception {
        ConnectionFactory factory = Support.factory();
        factory.setRequestedChannelMax(17);
        factory.setRequestedFrameMax(8192);
        factory.setRequestedHeartbeat(7);
        Map<String, Object> properties = new HashMap<>(factory.getClientProperties());
        properties.put("purpose", "compatibility");
        properties.put("nested", Map.of("list", List.of(1, "two", true)));
        factory.setClientProperties(properties);
        try (Connection connection = factory.newConnection(List.of(new Address(factory.getHost(), factory.getPort())), "a name")) {
            Support.equal(connection.getChannelMax(), 17, "channel-max");
            Support.equal(connection.getFrameMax(), 8192, "frame-max");
            Support.equal(connection.getHeartbeat(), 7, "heartbeat");
            Map<String, Object> server = connection.getServerProperties();
            Support.equal(server.get("capabilities") instanceof Map, true, "capabilities");
            Map<?, ?> capabilities = (Map<?, ?>) server.get("capabilities");
            for (String name : List.of("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to")) {
                Support.equal(capabilities.get(name), true, name);
            }
            String queue = connection.createChannel().queueDeclare().getQueue();
            Channel channel = connection.createChannel();
            channel.basicPublish("", queue, null, new byte[20_000]);
            Support.equal(channel.basicGet(queue, true).getBody().length, 20_000, "a body of several frames");
        }
        ConnectionFactory nio = Support.factory();
        nio.useNio();
        nio.setNioParams(new NioParams().setNbIoThreads(2));
        try (Connection connection = nio.newConnection()) {
            Support.equal(connection.createChannel().queueDeclare().getMessageCount(), 0, "over NIO");
        }
    }

    private static void refusals() throws Exception {
        ConnectionFactory wrong = Support.factory();
        wrong.setPassword("wrong");
        try (Connection connection = wrong.newConnection()) {
            throw new AssertionError("logged in with a wrong password");
        } catch (AuthenticationFailureException refused) {
            Support.equal(refused.getMessage().startsWith("ACCESS_REFUSED - Login was refused"), true, refused.getMessage());
        }
        ConnectionFactory elsewhere = Support.factory();
        elsewhere.setVirtualHost("compat.java.no-vhost");
        try (Connection connection = elsewhere.newConnection()) {
            throw new AssertionError("opened a vhost that is not there");
        } catch (java.io.IOException refused) {
            AMQP.Connection.Close close = (AMQP.Connection.Close) ((ShutdownSignalException) refused.getCause()).getReason();
            Support.equal(close.getReplyCode(), 530, close.getReplyText());
            Support.equal(close.getReplyText().contains("vhost compat.java.no-vhost not found"), true, close.getReplyText());
        }
        ConnectionFactory external = Support.factory();
        external.setSaslConfig(DefaultSaslConfig.EXTERNAL);
        try (Connection connection = external.newConnection()) {
            throw new AssertionError("logged in without a certificate");
        } catch (java.io.IOException refused) {
            System.out.println("without a certificate: " + refused.getMessage());
        }
    }

    private static void heartbeats() throws Exception {
        ConnectionFactory factory = Support.factory();
        factory.setRequestedHeartbeat(1);
        factory.setAutomaticRecoveryEnabled(false);
        try (Connection connection = factory.newConnection()) {
            Thread.sleep(4_000);
            Support.equal(connection.isOpen(), true, "open after four intervals without traffic");
            connection.createChannel().queueDeclare();
        }
    }

    private static void channels() throws Exception {
        ConnectionFactory factory = Support.factory();
        factory.setRequestedChannelMax(5);
        try (Connection connection = factory.newConnection()) {
            Channel[] open = new Channel[5];
            for (int number = 0; number < 5; number++) {
                open[number] = connection.createChannel();
            }
            Support.equal(connection.createChannel(), null, "one more than agreed");
            open[2].close();
            Support.equal(connection.createChannel().getChannelNumber(), 3, "the number of a closed channel");
            BlockingQueue<ShutdownSignalException> signals = new LinkedBlockingQueue<>();
            open[0].addShutdownListener(signals::add);
            try {
                open[0].queueDeclarePassive("compat.java.no-queue");
                throw new AssertionError("found a queue that is not there");
            } catch (java.io.IOException missing) {
                ShutdownSignalException signal = Support.next(signals, "the shutdown signal");
                Support.equal(signal.isHardError(), false, "a channel's error");
                Support.equal(((AMQP.Channel.Close) signal.getReason()).getReplyCode(), 404, "not found");
            }
            Support.equal(open[1].isOpen(), true, "other channels are open");
        }
    }

    private static void tls() throws Exception {
        String url = System.getenv("AMQPS_URL");
        if (url == null) {
            System.out.println("no TLS: AMQPS_URL is not set");
            return;
        }
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (var file = Files.newInputStream(Path.of(System.getenv("AMQP_TLS_DIR"), "ca.pem"))) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        for (String version : List.of("TLSv1.2", "TLSv1.3")) {
            SSLContext context = SSLContext.getInstance(version);
            context.init(null, managers.getTrustManagers(), null);
            ConnectionFactory factory = new ConnectionFactory();
            factory.setUri(url);
            factory.useSslProtocol(context);
            factory.enableHostnameVerification();
            try (Connection connection = factory.newConnection()) {
                Support.equal(connection.createChannel().queueDeclare().getMessageCount(), 0, version);
            }
        }
        ConnectionFactory distrustful = new ConnectionFactory();
        distrustful.setUri(url);
        distrustful.useSslProtocol(SSLContext.getDefault());
        try (Connection connection = distrustful.newConnection()) {
            throw new AssertionError("trusted a certificate of nobody's");
        } catch (javax.net.ssl.SSLException refused) {
            System.out.println("not trusted: " + refused.getMessage());
        }
    }
}
