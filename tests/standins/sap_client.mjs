// Asks the Destination service for a destination, with SAP's own client.
//
//     node sap_client.mjs NAME OPTIONS
//
// OPTIONS are the other options of getDestination(), as JSON. The client finds the service key as
// in an application: in VCAP_SERVICES, or in a mounted Secret below SERVICE_BINDING_ROOT. Prints
// the destination as JSON; null if there is none.

import { getDestination } from '@sap-cloud-sdk/connectivity';
import { setGlobalLogLevel } from '@sap-cloud-sdk/util';
import './test_names.mjs';

setGlobalLogLevel('error');
const [destinationName, options] = process.argv.slice(2);
try {
  const destination = await getDestination({ destinationName, ...JSON.parse(options) });
  console.log(JSON.stringify(destination));
} catch (error) {
  console.error(error);
  process.exit(1);
}
