package pulseweir.client;

import static pulseweir.client.HapiClient.SYSTEM;
import static pulseweir.client.HapiClient.heartRate;
import static pulseweir.client.HapiClient.patient;
import static pulseweir.client.HapiClient.told;
import static pulseweir.client.Steps.refused;
import static pulseweir.client.Steps.saw;
import static pulseweir.client.Steps.step;

import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.api.PreferReturnEnum;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.PreconditionFailedException;
import ca.uhn.fhir.rest.server.exceptions.ResourceGoneException;
import ca.uhn.fhir.rest.server.exceptions.ResourceNotFoundException;
import ca.uhn.fhir.rest.server.exceptions.UnprocessableEntityException;
import java.math.BigDecimal;
import java.util.List;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.CapabilityStatement;
import org.hl7.fhir.r4.model.CodeType;
import org.hl7.fhir.r4.model.DateType;
import org.hl7.fhir.r4.model.Device;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Reference;
import org.hl7.fhir.r4.model.StringType;

/** One resource at a time: what the server says of itself, CRUD, conditions, and what is refused. */
final class Resources {
    private final HapiClient hapi;
    private final IGenericClient client;
    /** Of the Patient that the first steps make and change. */
    private IdType id = new IdType("Patient/never-made");

    Resources(HapiClient hapi) {
        this.hapi = hapi;
        this.client = hapi.client;
    }

    void run() throws Exception {
        resources();
        conditions();
        refusals();
    }

    private void resources() throws Exception {
        step("server validation", () -> {
            client.search().forResource(Patient.class).returnBundle(Bundle.class).execute();
            return List.copyOf(hapi.asked);
        });
        step("capability statement", () -> {
            CapabilityStatement found =
                    client.capabilities().ofType(CapabilityStatement.class).execute();
            boolean knowsPatients = found.getRestFirstRep().getResource().stream()
                    .anyMatch(each -> each.getType().equals("Patient") && each.getConditionalCreate());
            return saw("version", found.getFhirVersion().toCode(), "patients", knowsPatients);
        });
        step("create", () -> {
            hapi.asked.clear();
            MethodOutcome made = client.create().resource(patient("", "Smith")).execute();
            id = (IdType) made.getId();
            MethodOutcome minimal = client.create()
                    .resource(patient("", "Minimal"))
                    .prefer(PreferReturnEnum.MINIMAL)
                    .execute();
            return saw(
                    "created", List.of(made.getCreated(), minimal.getCreated()),
                    "version", made.getId().getVersionIdPart(),
                    "family", ((Patient) made.getResource()).getNameFirstRep().getFamily(),
                    "minimal", minimal.getResource() == null && minimal.getId().hasIdPart(),
                    "asked", List.copyOf(hapi.asked));
        });
        step("read", () -> {
            Patient found = client.read().resource(Patient.class).withId(id.getIdPart()).execute();
            Patient unchanged = client.read()
                    .resource(Patient.class)
                    .withId(id.getIdPart())
                    .ifVersionMatches("1")
                    .returnNull()
                    .execute();
            IBaseResource elsewhere = client.read().resource("Patient").withUrl(id).execute();
            return saw(
                    "family", found.getNameFirstRep().getFamily(),
                    "version", found.getMeta().getVersionId(),
                    "updated", found.getMeta().getLastUpdated() != null,
                    "unchanged", unchanged == null,
                    "same", elsewhere.getIdElement().getIdPart().equals(id.getIdPart()));
        });
        step("update", () -> {
            Patient changed = client.read().resource(Patient.class).withId(id.getIdPart()).execute();
            changed.setBirthDateElement(new DateType("1980-02-29"));
            MethodOutcome updated = client.update().resource(changed).execute();
            MethodOutcome fresh = client.update().resource(patient("eve", "Eve")).execute();
            return saw(
                    "version", updated.getId().getVersionIdPart(),
                    "created", fresh.getCreated(),
                    "at", fresh.getId().getValue().substring(hapi.url.length()));
        });
        step("vread", () -> {
            Patient first = client.read()
                    .resource(Patient.class)
                    .withIdAndVersion(id.getIdPart(), "1")
                    .execute();
            return saw("version", first.getMeta().getVersionId(), "born", first.getBirthDate());
        });
        step("patch", () -> {
            String change = "[{\"op\": \"add\", \"path\": \"/active\", \"value\": true}]";
            MethodOutcome patched = client.patch().withBody(change).withId(id.toVersionless()).execute();
            Patient after = client.read().resource(Patient.class).withId(id.getIdPart()).execute();
            return saw("version", patched.getId().getVersionIdPart(), "active", after.getActive());
        });
        step("delete", () -> {
            client.update().resource(patient("gone", "Gone")).execute();
            MethodOutcome deleted =
                    client.delete().resourceById("Patient", "gone").execute();
            return saw("version", deleted.getId() == null ? null : deleted.getId().getVersionIdPart());
        });
        step("round trip", () -> {
            Observation sent = heartRate("whole", "Patient/eve", 40);
            sent.getValueQuantity().setValue(new BigDecimal("72.50"));
            sent.getStatusElement().addExtension(SYSTEM + "/why", new StringType("checked"));
            sent.setDevice(new Reference("#monitor"));
            Device monitor = new Device();
            monitor.setId("monitor");
            monitor.setStatus(Device.FHIRDeviceStatus.ACTIVE);
            sent.addContained(monitor);
            client.update().resource(sent).execute();
            Observation found = client.read().resource(Observation.class).withId("whole").execute();
            // The parser tells the version again from the id, even without meta.
            found.setMeta(null).setId("whole");
            return saw(
                    "value", found.getValueQuantity().getValue().toPlainString(),
                    "equal", HapiClient.encoded(found).equals(HapiClient.encoded(sent)),
                    "contained", ((Device) found.getDevice().getResource()).getStatus().toCode());
        });
    }

    private void conditions() throws Exception {
        step("conditional create", () -> {
            MethodOutcome first = client.create()
                    .resource(patient("", "Once"))
                    .conditional()
                    .where(Patient.IDENTIFIER.exactly().systemAndCode(SYSTEM, "once"))
                    .execute();
            MethodOutcome second = client.create()
                    .resource(patient("", "Once"))
                    .conditionalByUrl("Patient?identifier=" + SYSTEM + "|once")
                    .execute();
            return saw(
                    "created", List.of(first.getCreated(), Boolean.TRUE.equals(second.getCreated())),
                    "same", first.getId().getIdPart().equals(second.getId().getIdPart()));
        });
        step("conditional update", () -> {
            MethodOutcome updated = client.update()
                    .resource(patient("", "Once").setActive(true))
                    .conditional()
                    .where(Patient.IDENTIFIER.exactly().systemAndCode(SYSTEM, "once"))
                    .execute();
            return saw("created", updated.getCreated(), "version", updated.getId().getVersionIdPart());
        });
        step("conditional patch", () -> {
            MethodOutcome patched = client.patch()
                    .withBody("[{\"op\": \"replace\", \"path\": \"/active\", \"value\": false}]")
                    .conditional(Patient.class)
                    .where(Patient.IDENTIFIER.exactly().systemAndCode(SYSTEM, "once"))
                    .execute();
            return saw("version", patched.getId().getVersionIdPart());
        });
        step("conditional delete", () -> {
            client.delete()
                    .resourceConditionalByType(Patient.class)
                    .where(Patient.IDENTIFIER.exactly().systemAndCode(SYSTEM, "once"))
                    .execute();
            MethodOutcome again = client.create()
                    .resource(patient("", "Once"))
                    .conditional()
                    .where(Patient.IDENTIFIER.exactly().systemAndCode(SYSTEM, "once"))
                    .execute();
            return saw("created again", again.getCreated());
        });
    }

    private void refusals() throws Exception {
        step("read of what is deleted", () -> told(refused(ResourceGoneException.class, () -> client.read()
                .resource(Patient.class)
                .withId("gone")
                .execute())));
        step("read of what never was", () -> told(refused(ResourceNotFoundException.class, () -> client.read()
                .resource(Patient.class)
                .withId("never")
                .execute())));
        step("update of a version that is past", () -> {
            // The client sends If-Match by itself when the resource says which version it was.
            Patient first = client.read().resource(Patient.class).withId("eve").execute();
            client.update().resource(first.copy().setActive(true)).execute();
            return told(refused(
                    PreconditionFailedException.class,
                    () -> client.update().resource(first).execute()));
        });
        step("several match a condition", () -> {
            client.update().resource(patient("twin-1", "Twin")).execute();
            client.update().resource(patient("twin-2", "Twin")).execute();
            return told(refused(PreconditionFailedException.class, () -> client.update()
                    .resource(patient("", "Twin"))
                    .conditional()
                    .where(Patient.IDENTIFIER.exactly().systemAndCode(SYSTEM, "twin"))
                    .execute()));
        });
        step("create of what is wrong", () -> told(refused(UnprocessableEntityException.class, () -> {
            Observation wrong = heartRate("", "Patient/eve", 1);
            wrong.setStatus(null);
            return client.create().resource(wrong).execute();
        })));
        step("XML", () -> List.of(
                told(refused(BaseServerResponseException.class, () -> client.create()
                        .resource(patient("", "Xml"))
                        .encodedXml()
                        .execute())),
                told(refused(BaseServerResponseException.class, () -> client.read()
                        .resource(Patient.class)
                        .withId("eve")
                        .encodedXml()
                        .execute()))));
        step("FHIRPath patch", () -> {
            Parameters change = new Parameters();
            change.addParameter()
                    .setName("operation")
                    .addPart(new Parameters.ParametersParameterComponent()
                            .setName("type")
                            .setValue(new CodeType("delete")))
                    .addPart(new Parameters.ParametersParameterComponent()
                            .setName("path")
                            .setValue(new StringType("Patient.birthDate")));
            return told(refused(BaseServerResponseException.class, () -> client.patch()
                    .withFhirPatch(change)
                    .withId("Patient/eve")
                    .execute()));
        });
    }
}
