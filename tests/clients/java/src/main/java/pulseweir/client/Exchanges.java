package pulseweir.client;

import static pulseweir.client.HapiClient.LOINC;
import static pulseweir.client.HapiClient.SYSTEM;
import static pulseweir.client.HapiClient.heartRate;
import static pulseweir.client.HapiClient.ids;
import static pulseweir.client.HapiClient.patient;
import static pulseweir.client.HapiClient.told;
import static pulseweir.client.Steps.refused;
import static pulseweir.client.Steps.saw;
import static pulseweir.client.Steps.step;

import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import ca.uhn.fhir.rest.server.exceptions.AuthenticationException;
import ca.uhn.fhir.rest.server.exceptions.ForbiddenOperationException;
import ca.uhn.fhir.rest.server.exceptions.UnprocessableEntityException;
import java.util.List;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Bundle.BundleType;
import org.hl7.fhir.r4.model.Bundle.HTTPVerb;
import org.hl7.fhir.r4.model.DateType;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.IntegerType;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.OperationOutcome;
import org.hl7.fhir.r4.model.OperationOutcome.IssueSeverity;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Resource;
import org.hl7.fhir.r4.model.StringType;

/** Bundles, operations, and a server that asks who comes. */
final class Exchanges {
    private final IGenericClient client;

    Exchanges(HapiClient hapi) {
        this.client = hapi.client;
    }

    void run(String closedUrl, String token) throws Exception {
        bundles();
        operations();
        tokens(closedUrl, token);
    }

    private static void add(Bundle bundle, Resource resource, HTTPVerb method, String url) {
        bundle.addEntry().setResource(resource).getRequest().setMethod(method).setUrl(url);
    }

    private static List<String> statuses(Bundle bundle) {
        return bundle.getEntry().stream()
                .map(entry -> entry.getResponse().getStatus().substring(0, 3))
                .toList();
    }

    private void bundles() throws Exception {
        step("transaction", () -> {
            Patient born = patient("", "Born");
            born.setId(IdType.newRandomUuid());
            Bundle sent = new Bundle().setType(BundleType.TRANSACTION);
            add(sent, heartRate("", born.getId(), 30), HTTPVerb.POST, "Observation");
            add(sent, born, HTTPVerb.POST, "Patient");
            sent.getEntry().get(1).setFullUrl(born.getId());
            add(sent, patient("", "Ida"), HTTPVerb.POST, "Patient");
            sent.getEntry().get(2).getRequest().setIfNoneExist("identifier=" + SYSTEM + "|ida");
            add(sent, patient("ward", "Ward"), HTTPVerb.PUT, "Patient/ward");
            Bundle answer = client.transaction().withBundle(sent).execute();
            IdType patientId = new IdType(answer.getEntry().get(1).getResponse().getLocation());
            Observation stored = client.read()
                    .resource(Observation.class)
                    .withUrl(new IdType(answer.getEntryFirstRep().getResponse().getLocation()).toVersionless())
                    .execute();
            String subject = stored.getSubject().getReferenceElement().getIdPart();
            return saw(
                    "type", answer.getType().toCode(),
                    "statuses", statuses(answer),
                    "linked", patientId.getIdPart().equals(subject));
        });
        step("transaction of resources", () -> {
            List<IBaseResource> sent = List.of(patient("", "Loose"), heartRate("", "Patient/eve", 50));
            List<IBaseResource> answer = client.transaction().withResources(sent).execute();
            return answer.stream()
                    .map(each -> each.fhirType() + "/" + each.getIdElement().hasIdPart())
                    .toList();
        });
        step("transaction that fails as a whole", () -> {
            Bundle sent = new Bundle().setType(BundleType.TRANSACTION);
            add(sent, patient("half", "Half"), HTTPVerb.PUT, "Patient/half");
            add(sent, heartRate("bad", "Patient/half", 1).setStatus(null), HTTPVerb.PUT, "Observation/bad");
            Object error = told(refused(
                    UnprocessableEntityException.class,
                    () -> client.transaction().withBundle(sent).execute()));
            Bundle stored = client.search().byUrl("Patient?_id=half").returnBundle(Bundle.class).execute();
            return saw("error", error, "stored", stored.getEntry().size());
        });
        step("batch", () -> {
            Bundle sent = new Bundle().setType(BundleType.BATCH);
            sent.addEntry().getRequest().setMethod(HTTPVerb.GET).setUrl("Patient/ida");
            sent.addEntry().getRequest().setMethod(HTTPVerb.GET).setUrl("Patient/never");
            add(sent, patient("batch", "Batch"), HTTPVerb.PUT, "Patient/batch");
            Bundle answer = client.transaction().withBundle(sent).execute();
            OperationOutcome outcome = (OperationOutcome) answer.getEntry().get(1).getResponse().getOutcome();
            return saw(
                    "type", answer.getType().toCode(),
                    "statuses", statuses(answer),
                    "read", answer.getEntryFirstRep().getResource().getIdElement().getIdPart(),
                    "outcome", outcome.getIssueFirstRep().getCode().toCode());
        });
    }

    private static boolean hasErrors(MethodOutcome outcome) {
        return ((OperationOutcome) outcome.getOperationOutcome()).getIssue().stream()
                .anyMatch(issue -> issue.getSeverity() == IssueSeverity.ERROR);
    }

    private void operations() throws Exception {
        step("$validate", () -> {
            Observation wrong = heartRate("", "Patient/ida", 1).setStatus(null);
            MethodOutcome valid = client.validate().resource(patient("", "Valid")).execute();
            MethodOutcome invalid = client.validate().resource(wrong).execute();
            return List.of(hasErrors(valid), hasErrors(invalid));
        });
        step("$everything", () -> {
            Bundle byGet = client.operation()
                    .onInstance(new IdType("Patient", "ida"))
                    .named("$everything")
                    .withParameter(Parameters.class, "_count", new IntegerType(50))
                    .useHttpGet()
                    .returnResourceType(Bundle.class)
                    .execute();
            Bundle byPost = client.operation()
                    .onInstance(new IdType("Patient", "ida"))
                    .named("everything")
                    .withNoParameters(Parameters.class)
                    .returnResourceType(Bundle.class)
                    .execute();
            Bundle before = client.operation()
                    .onInstance(new IdType("Patient", "ida"))
                    .named("$everything")
                    .withParameter(Parameters.class, "end", new DateType("2024-04-30"))
                    .returnResourceType(Bundle.class)
                    .execute();
            return List.of(ids(byGet), ids(byPost).size(), ids(before));
        });
        step("$lastn", () -> ids(client.operation()
                .onType(Observation.class)
                .named("$lastn")
                .withParameter(Parameters.class, "patient", new StringType("Patient/ida"))
                .andParameter("code", new StringType(LOINC + "|8867-4"))
                .andParameter("max", new IntegerType(2))
                .useHttpGet()
                .returnResourceType(Bundle.class)
                .execute()));
    }

    private void tokens(String closedUrl, String token) throws Exception {
        step("no token", () -> {
            IGenericClient stranger = new HapiClient(closedUrl).client;
            return told(refused(AuthenticationException.class, () -> stranger.read()
                    .resource(Patient.class)
                    .withId("eve")
                    .execute()));
        });
        step("bearer token", () -> {
            IGenericClient known = new HapiClient(closedUrl).client;
            known.registerInterceptor(new BearerTokenAuthInterceptor(token));
            MethodOutcome stored = known.update().resource(patient("eve", "Eve")).execute();
            Object error = told(refused(
                    ForbiddenOperationException.class,
                    () -> known.delete().resourceById("Patient", "eve").execute()));
            return saw("created", stored.getCreated(), "delete", error);
        });
    }
}
