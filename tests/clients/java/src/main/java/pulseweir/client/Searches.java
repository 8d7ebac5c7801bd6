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
import ca.uhn.fhir.rest.api.SearchStyleEnum;
import ca.uhn.fhir.rest.api.SearchTotalModeEnum;
import ca.uhn.fhir.rest.api.SummaryEnum;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.gclient.IQuery;
import ca.uhn.fhir.rest.server.exceptions.InvalidRequestException;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.stream.Stream;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.Patient;

/** Searches with their pages, and histories. */
final class Searches {
    private final HapiClient hapi;
    private final IGenericClient client;

    Searches(HapiClient hapi) {
        this.hapi = hapi;
        this.client = hapi.client;
    }

    void run() throws Exception {
        step("what is looked for", () -> {
            List<MethodOutcome> stored = new ArrayList<>();
            stored.add(client.update().resource(patient("ida", "Ida").setActive(true)).execute());
            for (int minute = 0; minute < 5; minute++) {
                Observation rate = heartRate("hr-" + minute, "Patient/ida", minute);
                stored.add(client.update().resource(rate).execute());
            }
            return stored.size();
        });
        searches();
        pages();
        histories();
    }

    private IQuery<Bundle> observations() {
        return client.search()
                .forResource(Observation.class)
                .where(Observation.PATIENT.hasId("ida"))
                .returnBundle(Bundle.class);
    }

    private void searches() throws Exception {
        step("search", () -> {
            Bundle found = observations()
                    .and(Observation.CODE.exactly().systemAndCode(LOINC, "8867-4"))
                    .and(Observation.DATE.after().second("2024-05-01T10:00:30Z"))
                    .sort()
                    .descending(Observation.DATE)
                    .count(2)
                    .totalMode(SearchTotalModeEnum.ACCURATE)
                    .execute();
            return saw("found", ids(found), "total", found.getTotal());
        });
        step("search by value, chain and name", () -> {
            Bundle byValue = observations()
                    .and(Observation.VALUE_QUANTITY
                            .greaterThanOrEquals()
                            .number("63")
                            .andUnits("http://unitsofmeasure.org", "/min"))
                    .execute();
            Bundle byChain = client.search()
                    .forResource(Observation.class)
                    .where(Observation.SUBJECT.hasChainedProperty("Patient", Patient.FAMILY.matches().value("Ida")))
                    .and(Observation.DATE.before().second("2024-05-01T10:01:00Z"))
                    .returnBundle(Bundle.class)
                    .execute();
            Bundle byName = client.search()
                    .forResource(Patient.class)
                    .where(Patient.NAME.matchesExactly().value("Ida"))
                    .and(Patient.IDENTIFIER.exactly().systemAndValues(SYSTEM, "ida", "nobody"))
                    .and(Patient.ACTIVE.exactly().code("true"))
                    .returnBundle(Bundle.class)
                    .execute();
            return Stream.of(byValue, byChain, byName)
                    .map(bundle -> ids(bundle).stream().sorted().toList())
                    .toList();
        });
        step("search with what belongs to it", () -> {
            Bundle included = observations()
                    .and(Observation.RES_ID.exactly().code("hr-0"))
                    .include(Observation.INCLUDE_SUBJECT)
                    .execute();
            Bundle referring = client.search()
                    .forResource(Patient.class)
                    .where(Patient.RES_ID.exactly().code("ida"))
                    .revInclude(Observation.INCLUDE_SUBJECT)
                    .returnBundle(Bundle.class)
                    .execute();
            return List.of(ids(included), ids(referring).size());
        });
        step("search in each style", () -> {
            hapi.asked.clear();
            List<Object> found = new ArrayList<>();
            for (SearchStyleEnum style : SearchStyleEnum.values()) {
                found.add(ids(observations().count(1).sort().ascending("date").usingStyle(style).execute()));
            }
            List<String> places = hapi.asked.stream().map(each -> each.split("[?]")[0]).toList();
            return saw("found", found, "asked", places);
        });
        step("search in a compartment", () -> ids(client.search()
                .forResource(Patient.class)
                .withIdAndCompartment("ida", "Observation")
                .sort()
                .ascending("date")
                .count(1)
                .returnBundle(Bundle.class)
                .execute()));
        step("search by URL", () -> ids(client.search()
                .byUrl("Observation?patient=ida&_sort=-date&_count=1")
                .returnBundle(Bundle.class)
                .execute()));
        step("parts of resources", () -> {
            Bundle counted = observations().summaryMode(SummaryEnum.COUNT).execute();
            Bundle parts = observations().elementsSubset("status").count(1).execute();
            Observation part = (Observation) parts.getEntryFirstRep().getResource();
            return saw("total", counted.getTotal(), "status", part.getStatus().toCode(), "value", part.hasValue());
        });
        step("search that is not understood", () -> told(refused(InvalidRequestException.class, () -> client.search()
                .byUrl("Observation?date=2023-02-30")
                .returnBundle(Bundle.class)
                .execute())));
    }

    /** The pages that follow one, it included. */
    private List<Bundle> walk(Bundle first) {
        List<Bundle> pages = new ArrayList<>(List.of(first));
        while (pages.get(pages.size() - 1).getLink(Bundle.LINK_NEXT) != null) {
            pages.add(client.loadPage().next(pages.get(pages.size() - 1)).execute());
        }
        return pages;
    }

    private void pages() throws Exception {
        step("pages", () -> {
            Bundle first = observations().sort().ascending("date").count(2).execute();
            return walk(first).stream().map(HapiClient::ids).toList();
        });
        step("pages of a search by POST", () -> {
            IQuery<Bundle> query = observations().sort().ascending("date").count(2);
            return walk(query.usingStyle(SearchStyleEnum.POST).execute()).stream()
                    .map(HapiClient::ids)
                    .toList();
        });
    }

    private void histories() throws Exception {
        step("history of an instance", () -> {
            Bundle found = client.history()
                    .onInstance("Patient/gone")
                    .returnBundle(Bundle.class)
                    .execute();
            return saw(
                    "type", found.getType().toCode(),
                    "methods", found.getEntry().stream().map(each -> each.getRequest().getMethod().toCode()).toList(),
                    "deleted without content", !found.getEntryFirstRep().hasResource());
        });
        step("history of a type", () -> {
            Bundle found = client.history()
                    .onType(Observation.class)
                    .returnBundle(Bundle.class)
                    .count(2)
                    .execute();
            List<Bundle> pages = walk(found);
            long all = pages.stream().mapToLong(page -> page.getEntry().size()).sum();
            return saw("newest", ids(found), "walked", all == found.getTotal(), "pages", pages.size());
        });
        step("history of everything", () -> {
            Bundle found = client.history().onServer().returnBundle(Bundle.class).since(new Date(0)).count(1).execute();
            Bundle later = client.history()
                    .onServer()
                    .returnBundle(Bundle.class)
                    .since(new Date(4102444800000L))
                    .execute();
            return saw("newest", ids(found), "later", later.getEntry().size());
        });
    }
}
