import com.pixelmed.validate.DicomSRValidator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** Validates the files named on standard input, one a line, and says "end" after each verdict. */
class PixelmedServer {
    public static void main(String[] arguments) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        BufferedReader names =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String name = names.readLine(); name != null; name = names.readLine()) {
            try {
                out.println(validator.validate(name));
            } catch (Exception error) {
                out.println("Error: " + error);
            }
            out.println("end");
        }
    }
}
