package pulseweir.client;

import static pulseweir.client.Steps.saw;

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.parser.StrictErrorHandler;
import ca.uhn.fhir.rest.client.api.IClientInterceptor;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.api.IHttpRequest;
import ca.uhn.fhir.rest.client.api.IHttpResponse;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import java.util.ArrayList;
import java.util.List;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.DateTimeType;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.OperationOutcome;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Quantity;
import org.hl7.fhir.r4.model.Reference;

/** HAPI's generic client doing what its documentation shows: {@code HapiClient OPEN_URL CLOSED_URL TOKEN}. */
public final class HapiClient {
    static final String SYSTEM = "https://example.org/ids";
    static final String LOINC = "http://loinc.org";
    private static final FhirContext CONTEXT = FhirContext.forR4();

    final String url;
    final IGenericClient client;
    /** Method and URL below the base of each request, in order. */
    final List<String> asked = new ArrayList<>();

    HapiClient(String url) {
        this.url = url;
        this.client = CONTEXT.getRestfulClientFactory().newGenericClient(url);
        client.registerInterceptor(new IClientInterceptor() {
            @Override
            public void interceptRequest(IHttpRequest request) {
                asked.add(request.getHttpVerbName() + " " + request.getUri().substring(url.length()));
            }

            @Override
            public void interceptResponse(IHttpResponse response) {
                // Only what is asked is noted.
            }
        });
    }

    public static void main(String[] arguments) throws Exception {
        // Whatever the store sends that R4 does not know is an error here.
        CONTEXT.setParserErrorHandler(new StrictErrorHandler());
        CONTEXT.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.ONCE);
        HapiClient open = new HapiClient(arguments[0]);
        new Resources(open).run();
        new Searches(open).run();
        new Exchanges(open).run(arguments[1], arguments[2]);
    }

    static Patient patient(String id, String family) {
        Patient patient = new Patient();
        patient.setId(id);
        patient.addIdentifier().setSystem(SYSTEM).setValue(family.toLowerCase());
        patient.addName().setFamily(family).addGiven("Jane");
        return patient;
    }

    static Observation heartRate(String id, String patient, int minute) {
        Observation observation = new Observation();
        observation.setId(id);
        observation.setStatus(Observation.ObservationStatus.FINAL);
        observation.getCode().addCoding().setSystem(LOINC).setCode("8867-4");
        observation.setSubject(new Reference(patient));
        observation.setEffective(new DateTimeType("2024-05-01T10:%02d:00Z".formatted(minute)));
        observation.setValue(new Quantity()
                .setValue(60L + minute)
                .setSystem("http://unitsofmeasure.org")
                .setCode("/min"));
        return observation;
    }

    static List<String> ids(Bundle bundle) {
        return bundle.getEntry().stream()
                .map(entry -> entry.getResource().getIdElement().toUnqualifiedVersionless().getValue())
                .toList();
    }

    static Object told(BaseServerResponseException error) {
        OperationOutcome outcome = (OperationOutcome) error.getOperationOutcome();
        String code = outcome == null ? null : outcome.getIssueFirstRep().getCode().toCode();
        return saw("kind", error.getClass().getSimpleName(), "status", error.getStatusCode(), "code", code);
    }

    static String encoded(IBaseResource resource) {
        return CONTEXT.newJsonParser().encodeResourceToString(resource);
    }
}
