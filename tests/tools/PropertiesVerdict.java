import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.Properties;

/** Prints the same as properties_verdict.c, but with java.util.Properties. */
class PropertiesVerdict {
    static Charset charset(byte[] text) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text));
            return StandardCharsets.UTF_8;
        } catch (CharacterCodingException e) {
            return StandardCharsets.ISO_8859_1;
        }
    }

    static String hex(Object s) throws CharacterCodingException {
        StringBuilder out = new StringBuilder();
        // A lone surrogate cannot be encoded.
        ByteBuffer b = StandardCharsets.UTF_8.newEncoder().encode(java.nio.CharBuffer.wrap((String) s));
        while (b.hasRemaining()) {
            out.append(String.format("%02x", b.get() & 0xFF));
        }
        return out.toString();
    }

    static String verdict(byte[] text) throws Exception {
        StringBuilder out = new StringBuilder();
        Properties inOrder = new Properties() {
            @Override
            public synchronized Object put(Object key, Object value) {
                try {
                    out.append(hex(key)).append('=').append(hex(value)).append(' ');
                } catch (CharacterCodingException e) {
                    throw new IllegalArgumentException(e);
                }
                return null;
            }
        };
        try {
            inOrder.load(new InputStreamReader(new ByteArrayInputStream(text), charset(text)));
        } catch (IllegalArgumentException e) {
            return "refused";
        }
        return out.toString();
    }

    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(System.in);
        PrintStream out = new PrintStream(System.out, false, "US-ASCII");
        try {
            while (true) {
                byte[] text = new byte[in.readInt()];
                in.readFully(text);
                out.println(verdict(text));
            }
        } catch (EOFException e) {
            out.flush();
        }
    }
}
